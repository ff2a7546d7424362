"""Files of one record a line: JSON objects, or Python literals as the older releases of UCSD wrote them."""

from __future__ import annotations

import ast
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from raypref.data.sources.lines import LineBlock, line_blocks
from raypref.data.sources.rows import Rows

Kind = Literal["text", "number"]
ARROW = {"text": pa.string(), "number": pa.float64()}


def json_lines(file: Path, fields: dict[str, Kind]) -> Iterator[Rows]:
    """Lines of JSON objects with the named top-level fields; one that is missing is null.

    A block is parsed by Arrow; only if it holds a fault, line by line, to find which.
    """
    for block in line_blocks(file, "utf-8"):
        yield _parsed_by_arrow(block, fields) or _parsed(block, fields, json.loads, "not a JSON object")


def literal_lines(file: Path, fields: dict[str, Kind]) -> Iterator[Rows]:
    """Lines of Python dicts (`{u'hours': 0.1, ...}`), evaluated as literals only, never as code."""
    for block in line_blocks(file, "utf-8"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # reviews are full of backslashes
            warnings.simplefilter("ignore", DeprecationWarning)
            yield _parsed(block, fields, ast.literal_eval, "not a Python dict")


def _parsed_by_arrow(block: LineBlock, fields: dict[str, Kind]) -> Rows | None:
    if block.garbled.any():
        return None
    schema = pa.schema([(name, ARROW[kind]) for name, kind in fields.items()])
    try:
        table = pj.read_json(
            io.BytesIO(block.raw),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block.raw) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(block):
        return None
    return Rows(block.number, block.text, {name: table[name].combine_chunks() for name in fields})


def _parsed(block: LineBlock, fields: dict[str, Kind], parse: Callable[[str], Any], complaint: str) -> Rows:
    columns: dict[str, list[Any]] = {name: [] for name in fields}
    broken = np.zeros(len(block), dtype=bool)
    for i, line in enumerate(block.text.to_pylist()):
        try:
            record = parse(line)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            record = None
        broken[i] = not isinstance(record, dict)
        for name, kind in fields.items():
            columns[name].append(None if broken[i] else _plain(record.get(name), kind))
    rows = Rows(block.number, block.text, {name: pa.array(columns[name], ARROW[kind]) for name, kind in fields.items()})
    rows.refuse(block.garbled, "not utf-8 text")
    rows.refuse(broken, complaint)
    return rows


def _plain(value: Any, kind: Kind) -> str | float | None:
    """`value` as text or number, None where it is neither. Numbers in quotes are numbers; numeric ids are text."""
    if isinstance(value, bool):
        return None
    if kind == "number":
        try:
            return float(value) if isinstance(value, int | float | str) else None
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
    return None
