"""Which split of an evaluation is reported, and which one chooses: the one rule for records, tables and figures."""

from __future__ import annotations

from collections.abc import Collection

REPORTED = ("test", "validation")
CHOOSING = ("validation", "test")


def reported_split(splits: Collection[str]) -> str:
    """Return `test`, else `validation` (published data may lack a test file), else the first by name of what there is.

    Without any split it is `test`, of which there is then nothing to show.
    """
    return _first(REPORTED, splits)


def choosing_split(splits: Collection[str]) -> str:
    """Return `validation`, else `test`, and then a claim about the chosen one is too kind; else as `reported_split`."""
    return _first(CHOOSING, splits)


def _first(wanted: tuple[str, ...], splits: Collection[str]) -> str:
    return next((name for name in wanted if name in splits), min(splits, default="test"))
