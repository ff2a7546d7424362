"""Delimited text of every kind: tabs, commas, bars, `::`; with or without header, quotes, gzip.

One line is one record. A block is split as a whole; only lines with quotes are parsed one by one. A field with a line
break in it is therefore a broken line, which keeps every count exact even where a quote is never closed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.sources.lines import Encoding, LineBlock, line_blocks
from raypref.data.sources.rows import Rows
from raypref.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written."""

    delimiter: str
    names: tuple[str, ...] = ()
    """The columns, in order; empty: the first line names them."""
    header: Literal["none", "optional", "expected"] = "none"
    """Whether the first line repeats `names`."""
    encoding: Encoding = "utf-8"
    quoted: bool = False
    """Fields may stand in double quotes."""


class DelimitedFile:
    """A delimited file whose header has been read."""

    def __init__(self, file: Path, layout: Layout) -> None:
        self.file, self.layout = file, layout
        first = next(line_blocks(file, layout.encoding, block_bytes=1 << 16), None)
        if first is None:
            raise UserError("the file is empty", where=str(file), mend="download or export it again")
        line = first.text[0].as_py()
        fields = tuple(f.strip() for f in self._fields(line) or ())
        if not layout.names:
            self.names = fields
            if len(set(fields)) < len(fields):
                raise UserError("two columns share a name", where=f"{file}, line {first.number[0]}", mend="rename one")
        else:
            self.names = layout.names
        if layout.header == "expected" and fields != layout.names:
            raise UserError(
                f"the first line should name the columns {layout.delimiter.join(layout.names)}",
                where=f"{file}, line {first.number[0]}",
                mend="is it the right file? download it again",
            )
        self.header = line if fields == self.names else None
        self._header_number = int(first.number[0]) if self.header is not None else 0

    def rows(self, wanted: Sequence[str]) -> Iterator[Rows]:
        """The lines below the header, with the `wanted` columns as text."""
        for block in line_blocks(self.file, self.layout.encoding):
            start = int(block.number[0] == self._header_number)
            if start:
                block = LineBlock(block.number[1:], block.text[1:], block.garbled[1:])
            if len(block):
                yield self._split(block, wanted)

    def _split(self, block: LineBlock, wanted: Sequence[str]) -> Rows:
        width = len(self.names)
        places = {name: self.names.index(name) for name in wanted}
        has_quotes = np.zeros(len(block), dtype=bool)
        if self.layout.quoted:
            has_quotes = np.asarray(pc.match_substring(block.text, '"'))
        plain = np.flatnonzero(~has_quotes)
        parts = pc.split_pattern(
            block.text.take(pa.array(plain)) if has_quotes.any() else block.text, self.layout.delimiter
        )
        right = np.asarray(pc.list_value_length(parts)) == width
        flat = pc.list_flatten(parts.filter(pa.array(right)))
        row = [plain[right]]
        columns = {name: [flat.take(pa.array(np.arange(at, len(flat), width)))] for name, at in places.items()}
        ill_quoted = np.zeros(len(block), dtype=bool)
        if has_quotes.any():
            parsed = [(i, self._fields(block.text[i].as_py())) for i in np.flatnonzero(has_quotes)]
            ill_quoted[[i for i, fields in parsed if fields is None]] = True
            whole = [(i, fields) for i, fields in parsed if fields is not None and len(fields) == width]
            row.append(np.array([i for i, _ in whole], dtype=np.int64))
            for name, at in places.items():
                columns[name].append(pa.array([fields[at] for _, fields in whole], pa.string()))
        place = np.full(len(block), -1)
        place[np.concatenate(row)] = np.arange(sum(map(len, row)))
        index = pa.array(place, mask=place < 0)
        rows = Rows(block.number, block.text, {name: pa.concat_arrays(c).take(index) for name, c in columns.items()})
        rows.refuse(block.garbled, f"not {self.layout.encoding} text")
        rows.refuse(ill_quoted, "a quote is not closed on its line")
        rows.refuse(place < 0, f"not {width} fields")
        if self.header is not None:
            rows.refuse(pc.equal(block.text, self.header), "the header again")
        return rows

    def _fields(self, line: str) -> list[str] | None:
        """The fields of one line; None where its quotes are ill."""
        if not self.layout.quoted or '"' not in line:
            return line.split(self.layout.delimiter)
        if line.count('"') % 2:  # csv would take a lone quote within a field for part of it
            return None
        try:
            return next(csv.reader([line], delimiter=self.layout.delimiter, strict=True))
        except (csv.Error, StopIteration):
            return None
