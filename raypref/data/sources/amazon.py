"""Amazon reviews: the releases of 2018 (Ni et al., 2019) and 2023 (Hou et al., 2024), one category at a time."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import Amazon2018Source, Amazon2023Source
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find, first_there
from raypref.data.sources.join import log_of_files
from raypref.data.sources.records import Kind, json_lines
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, FileTable, Rows, Sink

JUNK_TITLE = "getTime"  # of some pages of 2018, script text was taken for the title
CSV_2023 = Layout(",", ("user_id", "parent_asin", "rating", "timestamp"), "expected")
FIELDS_2023: dict[str, Kind] = {"user_id": "text", "parent_asin": "text", "rating": "number", "timestamp": "number"}
PER_SECOND_2023 = 1000  # its times are in milliseconds


def read_amazon_2018(config: Amazon2018Source) -> Log:
    """Reviews `CATEGORY_5.json.gz` (or, where there is none, `CATEGORY.json.gz`) and `meta_CATEGORY.json.gz`."""
    folder, name = find(config.path, "Amazon reviews 2018"), config.category
    reviews = first_there(folder, [f"{name}_5.json.gz", f"{name}_5.json", f"{name}.json.gz", f"{name}.json"])
    metadata = first_there(folder, [f"meta_{name}.json.gz", f"meta_{name}.json"])
    interactions = Sink(reviews, config.max_bad_lines, INTERACTION_ROWS)
    fields: dict[str, Kind] = {"reviewerID": "text", "asin": "text", "overall": "number", "unixReviewTime": "number"}
    for rows in json_lines(reviews, fields):
        interactions.add(
            rows,
            user_id=rows.text_of("reviewerID", "reviewerID"),
            item_id=rows.text_of("asin", "asin"),
            rating=rows.rating_of("overall"),
            timestamp=rows.seconds_of("unixReviewTime"),
        )
    items = _products(metadata, "asin", config.max_bad_lines)
    return log_of_files(f"amazon-2018-{name}", config.domain, config.max_bad_lines, interactions.finish(), items)


def read_amazon_2023(config: Amazon2023Source) -> Log:
    """Reviews `CATEGORY.jsonl.gz`, or the 5-core `CATEGORY.csv.gz`, and `meta_CATEGORY.jsonl.gz`."""
    folder, name = find(config.path, "Amazon reviews 2023"), config.category
    reviews = first_there(folder, [f"{name}{end}" for end in (".jsonl.gz", ".jsonl", ".csv.gz", ".csv")])
    metadata = first_there(folder, [f"meta_{name}.jsonl.gz", f"meta_{name}.jsonl"])
    interactions = Sink(reviews, config.max_bad_lines, INTERACTION_ROWS)
    for rows in _reviews_2023(reviews):
        interactions.add(
            rows,
            user_id=rows.text_of("user_id", "user_id"),
            item_id=rows.text_of("parent_asin", "parent_asin"),
            rating=rows.rating_of("rating"),
            timestamp=rows.seconds_of("timestamp", PER_SECOND_2023),
        )
    items = _products(metadata, "parent_asin", config.max_bad_lines)
    return log_of_files(f"amazon-2023-{name}", config.domain, config.max_bad_lines, interactions.finish(), items)


def _reviews_2023(file: Path) -> Iterator[Rows]:
    if ".csv" in file.suffixes:
        return DelimitedFile(file, CSV_2023).rows(CSV_2023.names)
    return json_lines(file, FIELDS_2023)


def _products(file: Path, key: str, limit: float) -> FileTable:
    sink = Sink(file, limit, ITEM_ROWS)
    fields: dict[str, Kind] = {key: "text", "title": "text"}
    for rows in json_lines(file, fields):
        rows.columns["title"] = _unescaped(rows.columns["title"])
        title = rows.title_of("title")
        rows.refuse(pc.fill_null(pc.match_substring(title, JUNK_TITLE), False), "title is script text")
        sink.add(rows, item_id=rows.text_of(key, key), title=title)
    return sink.finish()


def _unescaped(titles: pa.Array) -> pa.Array:
    """Titles without HTML entities and tags."""
    entity = np.asarray(pc.fill_null(pc.match_substring_regex(titles, "&[#a-zA-Z0-9]+;|<[a-zA-Z/]"), False))
    if not entity.any():
        return titles
    bare = pc.replace_substring_regex(titles.filter(pa.array(entity)), r"</?[a-zA-Z][^>]*>", "")
    return pc.replace_with_mask(
        titles, pa.array(entity), pa.array([html.unescape(t) for t in bare.to_pylist()], pa.string())
    )
