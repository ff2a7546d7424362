"""LastFM of HetRec 2011: `user_artists.dat` (user, artist, plays; tabs) and `artists.dat`. No times."""

from __future__ import annotations

from raypref.config.sources import HetrecLastFMSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, Sink

PLAYS = Layout("\t", ("userID", "artistID", "weight"), "optional")
ARTISTS = Layout("\t", ("id", "name", "url", "pictureURL"), "optional")


def read_hetrec_lastfm(config: HetrecLastFMSource) -> Log:
    """Play counts become counts; there are no times, so a sequential split is refused later."""
    folder = find(config.path, "LastFM (HetRec 2011)", config.files)
    interactions = Sink(folder / "user_artists.dat", config.max_bad_lines, INTERACTION_ROWS)
    for rows in DelimitedFile(folder / "user_artists.dat", PLAYS).rows(PLAYS.names):
        interactions.add(
            rows,
            user_id=rows.text_of("userID", "user"),
            item_id=rows.text_of("artistID", "artist"),
            count=rows.number_of("weight", "weight", 0),
        )
    items = Sink(folder / "artists.dat", config.max_bad_lines, ITEM_ROWS)
    for rows in DelimitedFile(folder / "artists.dat", ARTISTS).rows(("id", "name")):
        items.add(rows, item_id=rows.text_of("id", "artist"), title=rows.title_of("name", "name"))
    return log_of_files("lastfm-hetrec2011", "music", config.max_bad_lines, interactions.finish(), items.finish())
