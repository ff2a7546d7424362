"""MovieLens 100K: `u.data` (user, item, rating, time; tabs) and `u.item` (id|title|..., latin-1)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa

from raypref.config.data import MovieLens100KSource
from raypref.data.canonical import canonical
from raypref.data.schema import Log
from raypref.data.sources.files import find, rejected_table, tolerate
from raypref.errors import UserError

_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|Il|El|Das|Der|Die)$")


def clean_title(title: str) -> str:
    """`Third Man, The (1949)` as RecPO's figure 5 prints it: `The Third Man`."""
    bare = _YEAR.sub("", title)
    bare = re.sub(r"\s*\([^)]*\)\s*$", "", bare) or bare  # a second title in brackets
    return _ARTICLE.sub(r"\2 \1", bare).strip() or title


def clean_titles(titles: list[str]) -> list[str]:
    """Cleaned titles; the year stays where two films would otherwise share one."""
    cleaned = [clean_title(t) for t in titles]
    counts = pd.Series(cleaned).value_counts()
    years = [(_YEAR.search(t) or [None, ""])[1] for t in titles]
    return [f"{c} ({y})" if counts[c] > 1 and y else c for c, y in zip(cleaned, years)]


def read_movielens_100k(config: MovieLens100KSource) -> Log:
    """Read the folder; broken lines are refused one by one and counted."""
    folder = find(config.path, "MovieLens 100K", ("u.data", "u.item"))
    interactions, rejected = _ratings(folder / "u.data", config.max_bad_lines)
    return canonical("ml-100k", "movie", interactions, _titles(folder / "u.item"), rejected)


def _ratings(file: Path, limit: float) -> tuple[pa.Table, pa.Table]:
    lines = pd.Series(file.read_text(encoding="latin-1").splitlines(), dtype="str")
    fields = lines.str.split("\t", expand=True).reindex(columns=range(5))
    numbers = fields.iloc[:, 1:4].apply(pd.to_numeric, errors="coerce")
    reason = pd.Series("", index=lines.index)
    reason[~numbers[2].between(1, 5)] = "rating is not in 1..5"
    reason[~(numbers[3] >= 0)] = "time is not a number >= 0"
    reason[fields[3].isna() | fields[4].notna()] = "not 4 fields between tabs"
    bad = reason != ""
    rejected = rejected_table(file, [i + 1 for i in lines.index[bad]], reason[bad].tolist(), lines[bad].tolist())
    tolerate(rejected, len(lines), limit, file)
    good = ~bad
    return pa.table(
        {
            "user_id": pa.array(fields[0][good], pa.string()),
            "item_id": pa.array(fields[1][good], pa.string()),
            "rating": pa.array(numbers[2][good], pa.float32()),
            "count": pa.nulls(int(good.sum()), pa.float32()),
            "timestamp": pa.array(numbers[3][good].astype("int64")),
        }
    ), rejected


def _titles(file: Path) -> pa.Table:
    rows = [line.split("|") for line in file.read_text(encoding="latin-1").splitlines() if line.strip()]
    short = next((i for i, row in enumerate(rows) if len(row) < 2), None)
    if short is not None:
        raise UserError(f"line {short + 1} has no title", where=str(file), mend="unpack the data set again")
    return pa.table(
        {
            "item_id": [row[0] for row in rows],
            "title": clean_titles([row[1] for row in rows]),
            "metadata": pa.nulls(len(rows), pa.string()),
        }
    )
