"""Lines with quotes: which stand around a field, which are text, and where a field goes on in the next line.

The csv module reads what is written by the book (quotes doubled, line breaks inside). What it refuses is read with
backslashes before quotes, then field by field, with quotes as plain text where they stand in one (`12" Mix`,
`"Weird Al" Yankovic`): the first way that gives the right number of fields is taken.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MOST_LINES = 1000  # of one record: past them a quote is taken for one that is never closed
_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*")
_AFTER_QUOTE = re.compile(r'" +(?=[,;|\t]|$)')


@dataclass(frozen=True)
class Record:
    """What became of a line with quotes."""

    fields: list[str] | None
    """None: the line is broken."""
    lines: int = 1
    """How many lines it takes."""
    open: bool = False
    """Its quote may be closed by lines that have not been read yet."""


def read_record(lines: Sequence[str], at: int, delimiter: str, width: int, last: bool = True) -> Record:
    """The record that begins at line `at`; `last`: no more lines will come than `lines`."""
    line = lines[at]
    if len(delimiter) > 1:  # such files have no quotes
        return Record(fitted(line.split(delimiter), width))
    ways: list[dict[str, Any]] = [{"doublequote": True}]
    if "\\" in line:
        ways.append({"doublequote": False, "escapechar": "\\"})
    is_open = False
    for way in ways:
        found = _parsed(iter([line]), delimiter, way)
        if isinstance(found, list) and (fields := fitted(found, width)) is not None:
            return Record(fields)
        if found == "open":
            joined = _joined(lines, at, delimiter, width, way)
            if joined is not None:
                return joined
            is_open |= not last and len(lines) - at <= MOST_LINES and _stays_open(lines, at, delimiter, way)
    if is_open:
        return Record(None, open=True)
    return Record(fitted(_field_by_field(line, delimiter), width))


def read_header(line: str, delimiter: str) -> list[str]:
    """The fields of a line, whatever their number."""
    found: list[str] | str = ""
    if len(delimiter) == 1 and '"' in line:
        found = _parsed(iter([_AFTER_QUOTE.sub('"', line)]), delimiter, {"doublequote": True})
    return [f.strip().strip("\ufeff") for f in (found if isinstance(found, list) else line.split(delimiter))]


def _field_by_field(line: str, delimiter: str) -> list[str]:
    """The fields, quotes taken for marks only where they stand around a whole field: `"4,5","Weird Al" Yankovic`."""
    field, fields, at = _field(delimiter), [], 0
    while True:
        match = field.match(line, at)
        assert match is not None  # its second way matches anything
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        if match.end() >= len(line):
            return fields
        at = match.end() + 1


@functools.cache
def _field(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf' *"((?:[^"]|"")*)" *(?={mark}|$)|([^{mark}]*)')


def fitted(fields: list[str], width: int) -> list[str] | None:
    """The fields where they are `width` in number, blank ones at the end left out; else None."""
    return None if len(fields) < width or any(field.strip() for field in fields[width:]) else fields[:width]


def _parsed(lines: Iterator[str], delimiter: str, way: dict[str, Any]) -> list[str] | str:
    """The fields of one record; "open" where its last quote is not closed, "broken" where quotes follow no rule."""
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ", **way)
        return next(reader)
    except StopIteration:
        return "open"
    except csv.Error as error:
        return "open" if "unexpected end" in str(error) else "broken"


def _joined(lines: Sequence[str], at: int, delimiter: str, width: int, way: dict[str, Any]) -> Record | None:
    """The record over several lines, unless one of them looks like a record of its own."""
    taken = _Counting(lines, at)
    parsed = _parsed(taken, delimiter, way)
    fields = fitted(parsed, width) if isinstance(parsed, list) else None
    if fields is None:
        return None
    numbers = [i for i, field in enumerate(fields) if _NUMBER.fullmatch(field)]
    for line in lines[at + 1 : taken.at]:
        own = line.split(delimiter)
        if len(own) == width and all(_NUMBER.fullmatch(own[i].strip('"')) for i in numbers):
            return None
    return Record(fields, taken.at - at)


def _stays_open(lines: Sequence[str], at: int, delimiter: str, way: dict[str, Any]) -> bool:
    return _parsed(_Counting(lines, at), delimiter, way) == "open"


class _Counting:
    """Lines from `at` on with their ends put back, and how far they were read."""

    def __init__(self, lines: Sequence[str], at: int) -> None:
        self._lines, self.at, self._end = lines, at, min(len(lines), at + MOST_LINES)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.at == self._end:
            raise StopIteration
        self.at += 1
        return self._lines[self.at - 1] + "\n"
