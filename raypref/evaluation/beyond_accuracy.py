"""What a whole system recommends, beyond how often it is right: one number for all users' lists together.

Each function reads the rows of one split with the columns of `catalog.CATALOG_ROWS`; k is at most `catalog.TOP`.
Metrics with a value a user (novelty, diversity, HR by fame) are in `catalog_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

K = 10


def coverage(rows: pa.Table, k: int = K) -> float:
    """Share of the catalog that is in some user's first k, `|union of top-k| / M` (Ge et al. 2010). Greater is better.

    Edge cases: with fewer than M / k users it can't be 1; no rows: NaN.
    """
    counts = _recommended(rows, k)
    return float((counts > 0).mean()) if len(counts) else float("nan")


def gini(rows: pa.Table, k: int = K) -> float:
    """Gini index of how often each of the M items is in a top k (Fleder & Hosanagar 2009): with counts x in ascending
    order, `sum_j (2 j - M - 1) x_j / (M sum_j x_j)`. 0: all alike; (M - 1) / M: one item only. Smaller is fairer.

    Edge cases: items that nobody gets count as 0; no rows: NaN.
    """
    counts = np.sort(_recommended(rows, k))
    items = len(counts)
    if not counts.sum():
        return float("nan")
    return float(((2 * np.arange(1, items + 1) - items - 1) * counts).sum() / (items * counts.sum()))


def group_unfairness(rows: pa.Table, k: int = K) -> np.ndarray:
    """(G,) of each genre its share of what the first k recommend less its share of the users' histories (Jiang et al.
    2024, IFairLRS, GU@K): above 0, a genre is recommended more often than it was chosen.

    An item of several genres counts once for each; shares are of all these counts and add up to 1. Genres that stand in
    neither are not counted.

    Edge cases: no genres, in the lists or in the histories: empty.
    """
    given = _genre_counts([row[:k] for row in rows["top_genres"].to_pylist() if row])
    chosen = _genre_counts([row for row in rows["history_genres"].to_pylist() if row])
    if not given.sum() or not chosen.sum():
        return np.zeros(0)
    width = max(len(given), len(chosen))
    given, chosen = (np.pad(counts, (0, width - len(counts))) for counts in (given, chosen))
    there = (given + chosen) > 0
    return (given / given.sum() - chosen / chosen.sum())[there]


def mgu(rows: pa.Table, k: int = K) -> float:
    """Mean of the genres' absolute unfairness, MGU@K of `group_unfairness`. Smaller is fairer; NaN without genres."""
    found = np.abs(group_unfairness(rows, k))
    return float(found.mean()) if len(found) else float("nan")


def dgu(rows: pa.Table, k: int = K) -> float:
    """Unfairness of the most favored genre less that of the least, DGU@K of `group_unfairness`. Smaller is fairer; NaN
    without genres.
    """
    found = group_unfairness(rows, k)
    return float(found.max() - found.min()) if len(found) else float("nan")


CATALOG_METRICS: dict[str, Callable[[pa.Table], float]] = {
    f"catalog_coverage@{K}": coverage,
    f"catalog_gini@{K}": gini,
    f"catalog_mgu@{K}": mgu,
    f"catalog_dgu@{K}": dgu,
}


def of_system(rows: pa.Table) -> dict[str, float]:
    """Each of these that the rows of a split allow and that has a value."""
    if "catalog_rank" not in rows.column_names or rows["catalog_rank"].null_count or not rows.num_rows:
        return {}
    found = {name: function(rows) for name, function in CATALOG_METRICS.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _recommended(rows: pa.Table, k: int) -> np.ndarray:
    """(M,) how often each item is in a top k; the items that never are come last."""
    if not rows.num_rows:
        return np.zeros(0)
    _, counts = np.unique(np.concatenate([row[:k] for row in rows["top"].to_pylist()]), return_counts=True)
    return np.pad(counts, (0, rows["catalog_items"][0].as_py() - len(counts))).astype(np.float64)


def _genre_counts(rows: list[list[list[int]]]) -> np.ndarray:
    flat = [genre for row in rows for item in row for genre in item]
    return np.bincount(flat).astype(np.float64) if flat else np.zeros(0)
