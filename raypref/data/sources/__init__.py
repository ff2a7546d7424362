"""Data sources: one file per raw format, each a function from its config to a canonical `Log`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raypref.data.schema import Log
from raypref.data.sources.csv_file import read_csv
from raypref.data.sources.generated import generate
from raypref.data.sources.movielens_100k import read_movielens_100k

SOURCES: dict[str, Callable[[Any], Log]] = {
    "generated": generate,
    "ml-100k": read_movielens_100k,
    "csv": read_csv,
}
