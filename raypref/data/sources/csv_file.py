"""Interactions of one's own: a CSV, TSV or Parquet file, columns by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raypref.config.base import unknown_key
from raypref.config.data import CsvSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.rows import INTERACTION_ROWS, LATEST, Rows, Sink, to_numbers
from raypref.data.sources.titles import TitleBook
from raypref.errors import UserError

OPTIONAL = ("rating", "count", "timestamp")
DATE_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
# 2020-01-31T10:00:00.5+02:00: a fraction of a second is cut off, an offset is taken into account
DATE = r"^(?P<local>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}:\d{2})?)(?:\.\d+)?(?P<offset>Z|[+-]\d{2}:?\d{2})?$"


def read_csv(config: CsvSource) -> Log:
    """Read the file; rows without user, item or title, or with a rating outside 0.5..5, are refused and counted."""
    file = find(config.path, "your interactions")
    if not file.is_file():
        raise UserError("your interactions: that is no file", where=str(file), mend="give the file itself")
    wanted = {key: getattr(config, key) for key in ("user", "item", "title", *OPTIONAL)}
    columns = {key: name for key, name in wanted.items() if name is not None}
    interactions, titles = Sink(file, config.max_bad_lines, INTERACTION_ROWS), TitleBook(file)
    for rows in _rows(file, columns):
        item, title = rows.text_of(columns["item"], "item"), rows.title_of(columns["title"])
        given = {"user_id": rows.text_of(columns["user"], "user"), "item_id": item}
        if "rating" in columns:
            given["rating"] = rows.rating_of(columns["rating"])
        if "count" in columns:
            given["count"] = rows.number_of(columns["count"], "count", 0)
        if "timestamp" in columns:
            given["timestamp"] = _seconds(rows, columns["timestamp"])
        interactions.add(rows, **given)
        titles.add(rows, item, title)
    name = file.name.split(".")[0]
    return log_of_files(name, config.domain, config.max_bad_lines, interactions.finish(), titles.finish())


def _rows(file: Path, columns: dict[str, str]) -> Iterator[Rows]:
    if file.suffix == ".parquet":
        return _parquet_rows(file, columns)
    tabs = ".tsv" in file.suffixes
    table = DelimitedFile(file, Layout("\t" if tabs else ",", quoted=True))
    _check_names(table.names, columns, file)
    return table.rows(list(columns.values()))


def _check_names(names: tuple[str, ...], columns: dict[str, str], file: Path) -> None:
    for key, name in columns.items():
        if name not in names:
            raise UserError(
                unknown_key(name, set(names)).replace("unknown key", "there is no column"),
                where=str(file),
                mend=f"name the column by --data.source.{key}" + (", or None" if key in OPTIONAL else ""),
            )


def _parquet_rows(file: Path, columns: dict[str, str]) -> Iterator[Rows]:
    try:
        with pq.ParquetFile(file) as table:
            _check_names(tuple(table.schema_arrow.names), columns, file)
            seen = 0
            for batch in table.iter_batches(columns=list(columns.values())):
                arrays = {name: _text_or_number(batch[name], file, name) for name in columns.values()}
                text = pc.binary_join_element_wise(
                    *(array.cast(pa.string()) for array in arrays.values()),
                    ",",
                    null_handling="replace",
                    null_replacement="",
                )
                yield Rows(np.arange(seen + 1, seen + 1 + len(batch)), text, arrays | _ids_as_text(arrays, columns))
                seen += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"not a readable Parquet file: {error}", where=str(file), mend="write it again") from None


def _text_or_number(array: pa.Array, file: Path, name: str) -> pa.Array:
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return array.cast(pa.timestamp("s"), safe=False).cast(pa.int64()).cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return array
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array.validate(full=True)  # a damaged file may hold text that is none
        return array.cast(pa.string())
    raise UserError(f"column {name} holds {kind}, neither text nor numbers", where=str(file), mend="convert it")


def _ids_as_text(arrays: dict[str, pa.Array], columns: dict[str, str]) -> dict[str, pa.Array]:
    return {columns[key]: arrays[columns[key]].cast(pa.string()) for key in ("user", "item", "title")}


def _seconds(rows: Rows, name: str) -> np.ndarray:
    """Unix seconds of numbers or ISO dates, each row by itself."""
    column = rows.columns[name]
    value = np.floor(to_numbers(column))
    if pa.types.is_string(column.type) and np.isnan(value).any():
        parts = pc.extract_regex(pc.utf8_trim_whitespace(column), DATE)
        value = np.where(
            np.isnan(value), _dates(pc.struct_field(parts, "local"), pc.struct_field(parts, "offset")), value
        )
    rows.refuse(~((value >= 0) & (value <= LATEST)), "time is neither Unix seconds nor an ISO date from 1970 on")
    return np.where(rows.good, value, 0).astype(np.int64)


def _dates(local: pa.Array, offset: pa.Array) -> np.ndarray:
    """float64 Unix seconds of dates and their offsets (Z, +02:00, +0200 or empty: UTC), NaN where none."""
    parsed = pc.coalesce(*(pc.strptime(local, format=form, unit="s", error_is_null=True) for form in DATE_FORMS))
    seconds = np.asarray(parsed.cast(pa.int64()).cast(pa.float64()).fill_null(np.nan))
    digits = pc.replace_substring(pc.fill_null(offset, ""), ":", "")
    ahead = pc.if_else(pc.is_in(digits, value_set=pa.array(["", "Z"])), "+0000", digits)
    hours, minutes = (np.asarray(pc.utf8_slice_codeunits(ahead, a, b).cast(pa.float64())) for a, b in ((1, 3), (3, 5)))
    sign = np.where(np.asarray(pc.starts_with(ahead, "-")), -1, 1)
    utc: np.ndarray = seconds - sign * (hours * 3600 + minutes * 60)
    return utc
