"""Where two recordings of the same runs differ first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

Recording = dict[str, dict[str, dict[str, list[Any]]]]
"""By kind of run and file: columns."""


def first_difference(a: Recording, b: Recording, relative: float = 0.0, absolute: float = 0.0) -> str | None:
    """Where `b` differs first from `a`, in the order of the computation, and both values; None if nowhere.

    Args:
        relative, absolute: what numbers may differ by, as in `math.isclose`; 0 and 0: not by a bit.
    """

    def alike(x: Any, y: Any) -> bool:
        if isinstance(x, list) and isinstance(y, list):
            return len(x) == len(y) and all(map(alike, x, y))
        if isinstance(x, float) and isinstance(y, float):
            same = x == y and math.copysign(1, x) == math.copysign(1, y)
            return same or (x != x and y != y) or math.isclose(x, y, rel_tol=relative, abs_tol=absolute)
        return type(x) is type(y) and x == y

    for kind in a:
        for file in (file for file in a[kind] if file in b[kind]):
            columns, others = a[kind][file], b[kind][file]
            for row, column in _cells({name: values for name, values in columns.items() if name in others}):
                x, y = columns[column], others[column]
                if len(x) != len(y):
                    return f"{kind}: {file}: {len(x)} rows, then {len(y)}"
                if not alike(x[row], y[row]):
                    return f"{kind}: {file}: row {row}: {column}: {x[row]!r}, then {y[row]!r}"
    return _other_names(a, b)


def _other_names(a: Recording, b: Recording) -> str | None:
    """Files and columns that only one has: told where all values that both have are alike."""
    names = [
        {f"{kind}: {file}: {column}" for kind in a for file, columns in one[kind].items() for column in columns}
        for one in (a, b)
    ]
    gone, new = sorted(names[0] - names[1]), sorted(names[1] - names[0])
    if not gone and not new:
        return None
    return f"what both leave is alike, but {len(gone)} columns are gone {gone[:5]} and {len(new)} new {new[:5]}"


def _cells(columns: dict[str, list[Any]]) -> Iterator[tuple[int, str]]:
    """Row by row, as it was computed."""
    for row in range(max(map(len, columns.values()), default=0)):
        yield from ((row, name) for name, values in columns.items() if row < len(values))
