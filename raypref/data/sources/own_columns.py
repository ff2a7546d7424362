"""Columns of one's own files on their way to a log: ids, titles, ratings and times as people write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import OwnColumns
from raypref.data.hints import options
from raypref.data.schema import Log
from raypref.data.sources.columnar import ColumnarFile, ids_of_numbers
from raypref.data.sources.guesses import suggestions
from raypref.data.sources.rating_scales import raw_ratings, settled
from raypref.data.sources.rows import INTERACTION_ROWS, FileTable, Rows, Sink
from raypref.data.sources.times import TimeForm, time_form
from raypref.errors import UserError

OPTIONAL = ("rating", "count", "timestamp")
NOTHING = "nan none null na n/a #n/a <na> (null) <null> nat \\n undefined".split()  # written for what is not there
MISSING = [*(form(word) for word in NOTHING for form in (str.lower, str.upper, str.title)), "NaN", "NaT"]
NO_TITLE = ("nan", "NaN", "<NA>", "\\N", "NULL", "(null)", "#N/A")  # but a film may be called None
INVISIBLE = " \t\u00a0\u200b\u200c\u200d\u2060\ufeff"  # around an id it is none of it
ODD_QUOTES = "'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
ROUNDED = r"^\d(\.\d+)?[eE]\+?\d+$"  # 7.65612E+16: a spreadsheet has rounded it


class Table(Protocol):
    """A file of rows, delimited or columnar."""

    file: Path
    names: tuple[str, ...]

    def rows(self, wanted: Sequence[str]) -> Iterator[Rows]: ...


@dataclass(frozen=True)
class OwnRows:
    """What tables of interactions gave."""

    files: list[FileTable]
    said: list[str]


def check_columns(
    file: Path, names: Sequence[str], wanted: dict[str, str], read_as: str = "", times: Sequence[str] = ()
) -> None:
    """Refuse a file that lacks one of the `wanted` columns (by key) or holds one twice.

    Args:
        read_as: how the file was read: a wrong separator shows as a missing column.
        times: columns that are times by their type.

    Raises:
        UserError: it names the options that read the file.
    """
    twice = [name for name in wanted.values() if list(names).count(name) > 1]
    if twice:
        raise UserError(f"two columns are called '{twice[0]}'", where=str(file), hint="rename one of them")
    missing = {key: name for key, name in wanted.items() if name not in names}
    if not missing:
        return
    _refuse_odd_shapes(file, names, missing)
    guessed = suggestions(missing, names, set(wanted.values()), times)
    source: dict[str, Any] = {}
    data: dict[str, Any] = {}
    complaints = []
    for key, name in missing.items():
        close = guessed.get(key)
        complaints.append(f"there is no column '{name}'" + (f": did you mean '{close}'?" if close else ""))
        if close is not None:
            source[key] = close
        elif key in OPTIONAL:
            source[key] = None
            if key == "rating" and "count" not in wanted:
                data = {"target": "next"}
        else:
            source[key] = source.get("item", wanted.get("item", "NAME")) if key == "title" else "NAME"
    columns = f"columns{f' ({read_as})' if read_as else ''}: {', '.join(map(repr, names))}"
    hint = f"name them: {options(source, data)}"
    if None in source.values() and len(names) > len(wanted) - list(source.values()).count(None):
        hint += "; None says that the file has no such column: if one of those above is it, put its name"
    if source.get("title") not in (None, "NAME") and source["title"] == source.get("item", wanted.get("item")):
        hint += "; this takes ids for titles: better give a file of titles by --data.source.items"
    raise UserError("\n".join([*complaints, columns]), where=str(file), hint=hint)


def _refuse_odd_shapes(file: Path, names: Sequence[str], missing: dict[str, str]) -> None:
    """Refuse what looks like missing columns and is another fault, which no option mends."""
    where = str(file)
    if len(names) > 1 and all(len(name) > 1 and name[0] in ODD_QUOTES and name[-1] in ODD_QUOTES for name in names):
        raise UserError(
            f"the fields stand in {names[0][0]}{names[0][-1]}, which are no quotes of a CSV file but part of the text",
            where=where,
            hint='write the file with double quotes (") or with none',
        )
    parts = {part.split("=")[0] for part in file.parts if "=" in part}
    if lost := [name for name in missing.values() if name in parts]:
        raise UserError(
            f"the values of column '{lost[0]}' stand in the names of the folders",
            where=where,
            hint="write it as one file: pandas.read_parquet(FOLDER).to_parquet('whole.parquet') makes them a column",
        )
    if len(names) == 1:
        inner = [s for s in (",", ";", "\t", "|") if names[0].count(s) >= len(missing) - 1]
        if inner:
            raise UserError(
                f"each line stands in quotes as a whole: {names[0]!r:.200}",
                where=where,
                hint="write it again without them: a spreadsheet took each line for one cell",
            )
        raise UserError(
            f"there is only one column, {names[0]!r:.200}",
            where=where,
            hint="give what stands between the fields by --data.source.separator; each line should hold user, item, "
            "rating, time and title",
        )


def read_interactions(
    tables: Sequence[Table],
    columns: dict[str, str],
    config: OwnColumns,
    limit: float,
    each: Callable[[Rows, pa.Array], None] | None = None,
) -> OwnRows:
    """The interactions of the tables, whose `columns` are named by key (user, item, rating, count, timestamp).

    Args:
        each: sees the rows of each block that are not refused, and their items' ids, before they are taken.
    """
    in_order_of_rows = config.order == "rows"  # a row's number is its time
    if in_order_of_rows:
        columns = {key: name for key, name in columns.items() if key != "timestamp"}
    form = TimeForm()
    said = []
    if "timestamp" in columns:
        form = _form(tables, columns["timestamp"], config)
        said.append(form.said)
    elif in_order_of_rows:
        said.append("no times, a user's interactions are in the order of the rows")
    files = []
    before = 0
    for table in tables:
        sink = Sink(table.file, limit, INTERACTION_ROWS)
        for rows in table.rows(list(dict.fromkeys(columns.values()))):
            item = id_of(rows, columns["item"], "item", table.file)
            given: dict[str, Any] = {"user_id": id_of(rows, columns["user"], "user", table.file), "item_id": item}
            if "rating" in columns:
                given["rating"] = raw_ratings(rows, columns["rating"])
            if "count" in columns:
                given["count"] = rows.number_of(columns["count"], "count", 0)
            if "timestamp" in columns:
                given["timestamp"] = form.seconds_of(rows, columns["timestamp"])
            elif in_order_of_rows:
                given["timestamp"] = before + rows.number
            if each is not None:
                each(rows, item)
            sink.add(rows, **given)
        files.append(sink.finish())
        before += files[-1].account.lines + files[-1].account.continued + 1
    if "rating" in columns:
        files, of_ratings = settled(files, columns["rating"], config.rating_scale, config.unrated, limit)
        said.append(of_ratings)
    return OwnRows(files, [text for text in said if text])


def _form(tables: Sequence[Table], name: str, config: OwnColumns) -> TimeForm:
    def column() -> Iterable[pa.Array]:
        return (rows.columns[name] for table in tables for rows in table.rows([name]))

    form = time_form(column, name, config.time_format, str(tables[0].file))
    if all(isinstance(table, ColumnarFile) and name in table.times for table in tables):
        return replace(form, said="times as the file's type has them, to the second")
    return form


def id_of(rows: Rows, name: str, what: str, file: Path) -> pa.Array:
    """A column of ids as text; what programs write for nothing is missing, and so refused."""
    text = pc.utf8_trim_whitespace(ids_of_numbers(rows.columns[name], name, file))
    if not pc.all(pc.string_is_ascii(text)).as_py():
        text = pc.utf8_trim(text, characters=INVISIBLE)
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")  # 7.0: a whole number that has been a float
    rows.refuse(pc.fill_null(pc.equal(pc.binary_length(text), 0), True), f"{what} is empty")
    rows.refuse(pc.fill_null(pc.is_in(text, value_set=pa.array(MISSING)), False), f"{what} is missing")
    rows.refuse(pc.fill_null(pc.match_substring_regex(text, ROUNDED), False), f"{what} is a rounded number")
    lone = np.asarray(pc.fill_null(pc.count_substring(text, '"'), 0)) % 2 == 1
    rows.refuse(lone, "a quote is not closed on its line")
    return text


def title_of(rows: Rows, name: str, file: Path) -> pa.Array:
    """A column of titles; missing ones are refused."""
    rows.columns[name] = ids_of_numbers(rows.columns[name], name, file)
    titles = rows.title_of(name)
    rows.refuse(pc.fill_null(pc.is_in(titles, value_set=pa.array(NO_TITLE)), False), "title is missing")
    return titles


def numeric_titles(log: Log) -> str | None:
    """A warning where titles are but numbers."""
    numbers = pc.match_substring_regex(log.items["title"], r"^[\d.\s]+(\[.*\])?$")
    if float(np.mean(np.asarray(numbers))) < 0.5:
        return None
    return "WARNING: titles are numbers, of which a language model knows nothing: is another column the title?"
