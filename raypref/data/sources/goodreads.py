"""Goodreads, the UCSD book graph (Wan and McAuley, 2018): interactions and books as gzipped JSON lines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import GoodreadsSource
from raypref.data.schema import Log
from raypref.data.sources.files import find, first_there
from raypref.data.sources.join import log_of_files
from raypref.data.sources.records import json_lines
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, LATEST, Rows, Sink

# Thu Aug 17 00:00:17 -0700 2017
DATE = (
    r"^[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>\d{1,2}) (?P<clock>\d{2}:\d{2}:\d{2}) "
    r"(?P<sign>[+-])(?P<hours>\d{2})(?P<minutes>\d{2}) (?P<year>\d{4})$"
)


def read_goodreads(config: GoodreadsSource) -> Log:
    """The day on which a book was added to a shelf is the time; a rating of 0 is none."""
    folder = find(config.path, "Goodreads")
    end = f"_{config.genre}.json" if config.genre else ".json"
    dedup = [] if config.genre else ["goodreads_interactions_dedup.json.gz", "goodreads_interactions_dedup.json"]
    shelves = first_there(folder, [*dedup, f"goodreads_interactions{end}.gz", f"goodreads_interactions{end}"])
    books = first_there(folder, [f"goodreads_books{end}.gz", f"goodreads_books{end}"])
    interactions = Sink(shelves, config.max_bad_lines, INTERACTION_ROWS)
    for rows in json_lines(shelves, {"user_id": "text", "book_id": "text", "rating": "number", "date_added": "text"}):
        rating = rows.number_of("rating", "rating", 0, 5)
        interactions.add(
            rows,
            user_id=rows.text_of("user_id", "user_id"),
            item_id=rows.text_of("book_id", "book_id"),
            rating=np.where(rating > 0, rating, np.nan),
            timestamp=_seconds(rows, "date_added"),
        )
    items = Sink(books, config.max_bad_lines, ITEM_ROWS)
    for rows in json_lines(books, {"book_id": "text", "title": "text"}):
        items.add(rows, item_id=rows.text_of("book_id", "book_id"), title=rows.title_of("title"))
    name = f"goodreads-{config.genre}" if config.genre else "goodreads"
    return log_of_files(name, "book", config.max_bad_lines, interactions.finish(), items.finish())


def _seconds(rows: Rows, name: str) -> np.ndarray:
    """Dates with an offset from UTC as Unix seconds; Arrow's `strptime` ignores the offset, so it is added here."""
    parts = pc.extract_regex(rows.columns[name], DATE)
    part = {key: pc.struct_field(parts, key) for key in ("month", "day", "clock", "sign", "hours", "minutes", "year")}
    text = pc.binary_join_element_wise(part["day"], part["month"], part["year"], part["clock"], " ")
    local = pc.strptime(text, format="%d %b %Y %H:%M:%S", unit="s", error_is_null=True).cast(pa.int64())
    shift = pc.add(pc.multiply(part["hours"].cast(pa.int64()), 3600), pc.multiply(part["minutes"].cast(pa.int64()), 60))
    value = pc.if_else(pc.equal(part["sign"], "-"), pc.add(local, shift), pc.subtract(local, shift))
    seconds = np.asarray(value.fill_null(-1))
    rows.refuse((seconds < 0) | (seconds > LATEST), f"{name} is not a date like Thu Aug 17 00:00:17 -0700 2017")
    return seconds
