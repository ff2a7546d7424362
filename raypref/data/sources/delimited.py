"""Delimited text of every kind: tabs, commas, bars, `::`; with or without header, quotes, packing.

A block is split as a whole; only lines with quotes are parsed one by one. Where a quoted field goes on over several
lines, they are one record under the number of the first; a quote that is never closed costs one line, so every count is
exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.sources.lines import LineBlock, line_blocks
from raypref.data.sources.quoted import fitted, read_header, read_record
from raypref.data.sources.rows import Rows
from raypref.errors import UserError

HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written."""

    delimiter: str
    names: tuple[str, ...] = ()
    """The columns, in order; empty: the first line names them."""
    header: Literal["none", "optional", "expected"] = "none"
    """Whether the first line repeats `names`."""
    encoding: str = "utf-8"
    quoted: bool = False
    """Fields may stand in double quotes."""
    before: int = 0
    """Fields of each line before the first that the header names: row names, as R writes them."""
    skip: int = 0
    """Filled lines before the header: `sep=;`, comments, a caption. They count as no lines, like the header."""


class DelimitedFile:
    """A delimited file whose header has been read."""

    def __init__(self, file: Path, layout: Layout) -> None:
        self.file, self.layout = file, layout
        first = next(line_blocks(file, layout.encoding, block_bytes=HEAD_BYTES), None)
        if first is None:
            raise UserError("the file is empty", where=str(file), hint="download or export it again")
        line = first.text[layout.skip].as_py()
        fields = tuple(read_header(line, layout.delimiter) if layout.quoted else _split(line, layout.delimiter))
        named = layout.names or fields
        if layout.header == "expected" and fields != layout.names:
            raise UserError(
                f"the first line should name the columns {layout.delimiter.join(layout.names)}",
                where=f"{file}, line {first.number[layout.skip]}",
                hint="is it the right file? download it again",
            )
        self.names = ("",) * layout.before + named
        self.header = line if fields == named else None
        self._header_number = int(first.number[layout.skip]) if self.header is not None else 0

    def rows(self, wanted: Sequence[str]) -> Iterator[Rows]:
        """The records below the header, with the `wanted` columns as text."""
        rest: LineBlock | None = None
        for block in line_blocks(self.file, self.layout.encoding):
            if block.number[0] <= self._header_number:
                block = block[int((block.number <= self._header_number).sum()) :]
            if rest is not None:
                block = rest.joined(block)
            if len(block):
                rows, rest = self._split(block, wanted, last=False)
                yield rows
        if rest is not None:
            yield self._split(rest, wanted, last=True)[0]

    def _split(self, block: LineBlock, wanted: Sequence[str], last: bool) -> tuple[Rows, LineBlock | None]:
        """The block's records, and its lines from a quote on that the next block may close."""
        width = len(self.names)
        places = {name: self.names.index(name) for name in wanted}
        parsed: dict[int, list[str] | None] = {}
        takes = np.ones(len(block), dtype=np.int64)  # lines of the record that begins here; 0: within another
        rest = None
        if self.layout.quoted:
            whole = self._parse_quoted(block, width, parsed, takes, last)
            rest, block, takes = block[whole:], block[:whole], takes[:whole]
        has_quotes = np.zeros(len(block), dtype=bool)
        has_quotes[list(parsed)] = True
        plain = np.flatnonzero(~has_quotes & (takes > 0))
        parts = pc.split_pattern(
            block.text if len(plain) == len(block) else block.text.take(pa.array(plain)), self.layout.delimiter
        )
        lengths = np.asarray(pc.list_value_length(parts))
        right = lengths == width
        for i in np.flatnonzero(lengths > width).tolist():
            parsed[int(plain[i])] = fitted(parts[i].as_py(), width)
        flat = pc.list_flatten(parts.filter(pa.array(right)))
        row = [plain[right]]
        columns = {name: [flat.take(pa.array(np.arange(at, len(flat), width)))] for name, at in places.items()}
        right_fields = [(i, fields) for i, fields in parsed.items() if fields is not None]
        row.append(np.array([i for i, _ in right_fields], dtype=np.int64))
        for name, at in places.items():
            columns[name].append(pa.array([fields[at] for _, fields in right_fields], pa.string()))
        place = np.full(len(block), -1)
        place[np.concatenate(row)] = np.arange(sum(map(len, row)))
        rows = self._rows(block, takes, place, {name: pa.concat_arrays(c) for name, c in columns.items()})
        return rows, rest if rest is not None and len(rest) else None

    def _parse_quoted(
        self, block: LineBlock, width: int, parsed: dict[int, list[str] | None], takes: np.ndarray, last: bool
    ) -> int:
        """Fill in `parsed` and `takes` of the lines with quotes; how many lines need not wait for the next block."""
        places = np.flatnonzero(np.asarray(pc.match_substring(block.text, '"')))
        if len(places) == 0:
            return len(block)
        lines = block.text.to_pylist()
        after = 0
        for i in places.tolist():
            if i < after:
                continue
            record = read_record(lines, i, self.layout.delimiter, width, last)
            if record.open:
                return i
            parsed[i] = record.fields
            after = i + record.lines
            takes[i] = record.lines
            takes[i + 1 : after] = 0
        return len(block)

    def _rows(self, block: LineBlock, takes: np.ndarray, place: np.ndarray, columns: dict[str, pa.Array]) -> Rows:
        starts = np.flatnonzero(takes)
        first = pa.array(starts)
        text = block.text.take(first)
        if (takes > 1).any():
            lines = block.text.to_pylist()
            text = pa.array(["\n".join(lines[i : i + takes[i]]) for i in starts.tolist()], pa.string())
        index = pa.array(place[starts], mask=place[starts] < 0)
        garbled = np.logical_or.reduceat(block.garbled, starts) if len(starts) else np.zeros(0, dtype=bool)
        rows = Rows(
            block.number[starts],
            text,
            {n: c.take(index) for n, c in columns.items()},
            continued=int((takes == 0).sum()),
        )
        rows.refuse(garbled, f"not {self.layout.encoding} text")
        bad = place[starts] < 0
        if bad.any():
            odd = np.asarray(pc.bit_wise_and(pc.count_substring(text, '"'), 1)) == 1
            rows.refuse(bad & odd & self.layout.quoted, "a quote is not closed on its line")
        rows.refuse(bad, f"not {len(self.names)} fields")
        if self.header is not None:
            rows.refuse(pc.equal(text, self.header), "the header again")
        return rows


def _split(line: str, delimiter: str) -> list[str]:
    return [f.strip() for f in line.split(delimiter)]
