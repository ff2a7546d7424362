"""Interactions of one's own: text with separators, JSON lines, Parquet, Feather; titles there or in a file of items."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from raypref.config.sources import CsvSource
from raypref.data.schema import Log
from raypref.data.sources.columnar import ColumnarFile, columnar_magic
from raypref.data.sources.delimited import HEAD_BYTES, DelimitedFile
from raypref.data.sources.dialect import dialect, headless, named_options, refuse_short_header
from raypref.data.sources.files import find, items_file
from raypref.data.sources.join import log_of_files
from raypref.data.sources.json_file import JsonLinesFile, is_json_lines
from raypref.data.sources.lines import line_blocks
from raypref.data.sources.opening import PARQUET
from raypref.data.sources.own_columns import (
    OPTIONAL,
    Table,
    check_columns,
    id_of,
    numeric_titles,
    read_interactions,
    title_of,
)
from raypref.data.sources.rows import ITEM_ROWS, FileTable, Rows, Sink
from raypref.data.sources.titles import TitleBook
from raypref.errors import UserError

BESIDE = re.compile(r"[_.]|(readme|licen[cs]e|citation)\b", re.I)


def read_csv(config: CsvSource) -> Log:
    """Read the file, or the parts in a folder; rows without user, item, title or time are refused and counted.

    What nobody said of separator, encoding, times and ratings is found in the file, and stands in `Log.assumed`.
    """
    files = _parts(find(config.path, "your interactions"), config.items)
    keys = ["user", "item", *([] if config.items else ["title"]), *OPTIONAL]
    columns = {key: name for key in keys if (name := getattr(config, key)) is not None}
    if config.order == "rows":
        columns.pop("timestamp", None)
    opened = [_table(file, columns, config, config.header) for file in files]
    tables, said = [table for table, _ in opened], list(dict.fromkeys(text for _, text in opened if text))
    for table, text in opened:
        check_columns(table.file, table.names, columns, text, _times(table))
    titles = TitleBook(files[0])

    def take_titles(rows: Rows, item: pa.Array) -> None:
        titles.add(rows, item, title_of(rows, columns["title"], files[0]))

    found = read_interactions(tables, columns, config, config.max_bad_lines, None if config.items else take_titles)
    said += found.said
    items = titles.finish() if config.items is None else _items(config, config.items, said)
    name = files[0].name.split(".")[0] if len(files) == 1 else find(config.path, "").name
    log = log_of_files(name, config.domain, config.max_bad_lines, found.files, items)
    warning = numeric_titles(log)
    return replace(log, assumed=(*said, *([warning] if warning else [])))


def _parts(path: Path, items: Path | None) -> list[Path]:
    """The file itself, or a folder's files; what programs and people leave beside them (_SUCCESS, README) is none."""
    if path.is_file():
        return [path]
    other = None if items is None else items_file(items, path)
    parts = sorted(p for p in path.rglob("*") if p.is_file() and not BESIDE.match(p.name) and p != other)
    if not parts:
        raise UserError("your interactions: the folder is empty", where=str(path), hint="give the file itself")
    return parts


def _table(file: Path, columns: dict[str, str], config: CsvSource, header: tuple[str, ...] | None) -> tuple[Table, str]:
    """The file as a table, and what was found of how it is written."""
    magic = columnar_magic(file)
    if magic is not None:
        return ColumnarFile(file, magic), "Parquet" if magic == PARQUET else "Feather"
    block = next(line_blocks(file, "utf-8", block_bytes=HEAD_BYTES), None)
    if block is not None and is_json_lines(file, block.text[0].as_py()):
        return JsonLinesFile(file), "JSON lines"
    found = dialect(file, columns.values(), config.separator, config.encoding, header)
    table = DelimitedFile(file, found.layout)
    if header is None and not {*columns.values()} & {*table.names}:
        names = headless(file, found.layout)
        if names is not None:
            raise UserError(
                f"the first line names no columns ({found.said}): {table.header!r:.200}",
                where=f"{file}, line 1",
                hint=f"name them in order, if this is right: {named_options(names, columns)}",
            )
    if header is None and not {*columns.values()} <= {*table.names}:
        refuse_short_header(file, found.layout, config.separator, columns)
    return table, found.said


def _times(table: Table) -> tuple[str, ...]:
    return table.times if isinstance(table, ColumnarFile) else ()


def _items(config: CsvSource, path: Path, said: list[str]) -> FileTable:
    """The items' titles; the file may lie beside the interactions."""
    file = items_file(path, find(config.path, "your interactions"))
    columns = {"items_item": config.items_item or config.item, "title": config.title}
    table, text = _table(file, columns, config, config.items_header)
    check_columns(file, table.names, columns, text, _times(table))
    if text and text not in said:
        said.append(f"{file.name}: {text}")
    sink = Sink(file, config.max_bad_lines, ITEM_ROWS)
    for rows in table.rows(list(columns.values())):
        item = id_of(rows, columns["items_item"], "item", file)
        sink.add(rows, item_id=item, title=title_of(rows, columns["title"], file))
    return sink.finish()
