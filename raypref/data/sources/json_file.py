"""Interactions of one's own as JSON, one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raypref.data.sources.delimited import HEAD_BYTES
from raypref.data.sources.lines import line_blocks
from raypref.data.sources.rows import Rows
from raypref.errors import UserError

SEEN = 100  # lines whose keys are the columns
BROKEN = object()


class JsonLinesFile:
    """A file of one JSON object a line: its keys, and rows block by block."""

    def __init__(self, file: Path) -> None:
        self.file = file
        block = next(line_blocks(file, "utf-8", block_bytes=HEAD_BYTES))
        records = [record for line in block.text[:SEEN].to_pylist() if (record := _record(line)) is not BROKEN]
        self.names = tuple(dict.fromkeys(key for record in records for key in record))

    def rows(self, wanted: Sequence[str]) -> Iterator[Rows]:
        """All lines, with the `wanted` keys as text; what is missing or null is null."""
        for block in line_blocks(self.file, "utf-8"):
            records = [_record(line) for line in block.text.to_pylist()]
            broken = np.array([record is BROKEN for record in records], dtype=bool)
            values = {name: [None if b else _text(r.get(name)) for r, b in zip(records, broken)] for name in wanted}
            columns = {
                name: pa.array([None if v is BROKEN else v for v in column], pa.string())
                for name, column in values.items()
            }
            rows = Rows(block.number, block.text, columns)
            rows.refuse(block.garbled, "not utf-8 text")
            rows.refuse(broken, "not a JSON object")
            for name, column in values.items():
                rows.refuse(np.array([v is BROKEN for v in column], dtype=bool), f"{name} is a list or an object")
            yield rows


def is_json_lines(file: Path, first_line: str) -> bool:
    """Whether a file that begins so holds one JSON object a line.

    Raises:
        UserError: it is JSON of another shape.
    """
    start = first_line.lstrip()[:2].replace(" ", "")
    if not start.startswith(("{", "[")):
        return False
    record = _record(first_line)
    if record is not BROKEN and not all(isinstance(value, list | dict) for value in record.values()):
        return True
    if start.startswith(("{'", "{u", "['")):
        raise UserError(
            "the lines are Python literals", where=str(file), hint="write them as JSON: json.dumps(...), one a line"
        )
    if not _looks_like_json(first_line):
        return False
    raise UserError(
        "the file is JSON, but not of one object a line",
        where=str(file),
        hint=(
            f'write it so, if it is an array of objects: python -c "import json; [print(json.dumps(r)) for r in '
            f"json.load(open('{file}'))]\" > {file.stem}.jsonl"
        ),
    )


def _looks_like_json(line: str) -> bool:
    """Whether a line that begins like JSON is more of it than a title in brackets."""
    rest = line.strip()[1:].lstrip()
    return rest == "" or rest[0] in '"{[]}'


def _record(line: str) -> Any:
    """The object that a line holds, or BROKEN."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return BROKEN
    return record if isinstance(record, dict) else BROKEN


def _text(value: Any) -> Any:
    """A value as text; null for null, BROKEN for what has parts."""
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode()  # half of a surrogate pair
    if isinstance(value, list | dict):
        return BROKEN
    return json.dumps(value)
