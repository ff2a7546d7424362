"""BeerAdvocate's multi-aspect reviews (McAuley et al., 2012): records of `key: value` lines, blank lines between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import BeerAdvocateSource
from raypref.data.schema import Log
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.lines import line_blocks
from raypref.data.sources.rows import INTERACTION_ROWS, Rows, Sink
from raypref.data.sources.titles import TitleBook
from raypref.errors import UserError

FIELDS = {
    "user": "review/profileName",
    "item": "beer/beerId",
    "title": "beer/name",
    "rating": "review/overall",
    "timestamp": "review/time",
}
BETWEEN = b"\n\n"


def read_beeradvocate(config: BeerAdvocateSource) -> Log:
    """The overall rating counts, 1 to 5 in halves. A record is counted as one line, by the number of its first."""
    file = find(config.path, "BeerAdvocate")
    if not file.is_file():
        raise UserError("BeerAdvocate is one file", where=str(file), hint="give the path of beeradvocate.txt.gz itself")
    interactions = Sink(file, config.max_bad_lines, INTERACTION_ROWS)
    titles = TitleBook(file)
    for rows in _records(file):
        item, title = rows.text_of("item", "beer/beerId"), rows.title_of("title", "beer/name")
        interactions.add(
            rows,
            user_id=rows.text_of("user", "review/profileName"),
            item_id=item,
            rating=rows.number_of("rating", "review/overall", 0.5, 5),
            timestamp=rows.seconds_of("timestamp"),
        )
        titles.add(rows, item, title)
    return log_of_files("beeradvocate", "beer", config.max_bad_lines, interactions.finish(), titles.finish())


def _records(file: Path) -> Iterator[Rows]:
    """Blocks of whole records. A key that is given twice counts as missing: which one is meant, nobody knows."""
    for block in line_blocks(file, "utf-8 or latin-1", until=BETWEEN, keep_blank=True):
        filled = np.asarray(pc.binary_length(block.text)) > 0
        starts = np.flatnonzero(filled & np.r_[True, ~filled[:-1]])
        if len(starts) == 0:
            continue
        record = np.cumsum(np.isin(np.arange(len(filled)), starts)) - 1
        columns = {name: _values(block.text, f"{key}:", record, len(starts)) for name, key in FIELDS.items()}
        yield Rows(block.number[starts], block.text.take(pa.array(starts)), columns)


def _values(text: pa.Array, key: str, record: np.ndarray, records: int) -> pa.Array:
    """Of each record the value of its one line that starts with `key`."""
    at = np.flatnonzero(np.asarray(pc.starts_with(text, key)))
    times = np.bincount(record[at], minlength=records)
    place = np.full(records, -1)
    place[record[at]] = np.arange(len(at))
    place[times != 1] = -1
    values = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(text.take(pa.array(at)), len(key)))  # keys are ASCII
    return values.take(pa.array(place, mask=place < 0))
