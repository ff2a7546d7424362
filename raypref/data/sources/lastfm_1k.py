"""LastFM-1K (Celma, 2010): one line a play; tabs between user, time, artist id and name, track id and name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import LastFM1KSource
from raypref.data.canonical import encoded
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.rows import INTERACTION_ROWS, Sink
from raypref.data.sources.titles import TitleBook

PLAYS = Layout("\t", ("user", "time", "artist_id", "artist", "track_id", "track"))


def read_lastfm_1k(config: LastFM1KSource) -> Log:
    """A user's plays of an item are one interaction: at its first play, with their number as count.

    Many artists and most tracks of this set lack an id; their name is then their id.
    """
    file = find(config.path, "LastFM-1K")
    interactions, titles = Sink(file, config.max_bad_lines, INTERACTION_ROWS), TitleBook(file)
    for rows in DelimitedFile(file, PLAYS).rows(PLAYS.names):
        title = rows.title_of("artist", "artist")
        if config.item == "track":
            title = pc.binary_join_element_wise(title, rows.title_of("track", "track"), " - ")
        given = pc.utf8_trim_whitespace(rows.columns[f"{config.item}_id"]).fill_null("")
        item = pc.if_else(pc.equal(given, ""), title, given)
        user, seconds = rows.text_of("user", "user"), rows.dates_of("time", "%Y-%m-%dT%H:%M:%SZ")
        interactions.add(rows, user_id=user, item_id=item, timestamp=seconds)
        titles.add(rows, item, title)
    plays = interactions.finish()
    merged = replace(plays, table=_first_plays(plays.table))
    return log_of_files("lastfm-1k", "music", config.max_bad_lines, merged, titles.finish())


def _first_plays(plays: pa.Table) -> pa.Table:
    """One row a user and item: its earliest play and how many there are."""
    if plays.num_rows == 0:
        return plays
    user, item = encoded(plays["user_id"]), encoded(plays["item_id"])
    pair = np.asarray(user.indices).astype(np.int64) * len(item.dictionary) + np.asarray(item.indices)
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.r_[True, pair[order][1:] != pair[order][:-1]])
    first = order[starts]
    earliest = np.minimum.reduceat(np.asarray(plays["timestamp"])[order], starts)
    counts = np.diff(np.r_[starts, len(order)]).astype(np.float32)
    table = plays.take(pa.array(first))
    table = table.set_column(table.schema.get_field_index("count"), "count", pa.array(counts))
    return table.set_column(table.schema.get_field_index("timestamp"), "timestamp", pa.array(earliest))
