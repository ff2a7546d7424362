"""Metrics as functions of the per-user rows: one value a user, so that any mean and test can be recomputed.

`generated_*` come from greedy generation, as the papers report them; `exact_*` from scoring and ranking all candidates.
The two are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa


def hit_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) 1 where the target is among the first k by exact ranking. HR@k is its mean."""
    hits: np.ndarray = rows["rank"].to_numpy() <= k
    return hits.astype(np.float64)


def ndcg_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1 / log2(1 + rank)` where the target is among the first k, else 0: NDCG with one relevant item."""
    rank: np.ndarray = rows["rank"].to_numpy()
    return np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)


def reciprocal_rank(rows: pa.Table) -> np.ndarray:
    """(n,) 1 / rank of the target. MRR is its mean."""
    rank: np.ndarray = rows["rank"].to_numpy()
    return 1.0 / rank


def generated_hit(rows: pa.Table, rule: str = "answered") -> np.ndarray:
    """(n,) 1 where the generated answer names the target; an answer that names no candidate counts as wrong."""
    hits: np.ndarray = rows[rule].to_numpy() == rows["target"].to_numpy()
    return hits.astype(np.float64)


def valid(rows: pa.Table, rule: str = "answered") -> np.ndarray:
    """(n,) 1 where the generated answer names one candidate. ValidRatio is its mean."""
    named: np.ndarray = rows[rule].to_numpy() >= 0
    return named.astype(np.float64)


EXACT: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "exact_hr@1": lambda rows: hit_at(rows, 1),
    "exact_hr@5": lambda rows: hit_at(rows, 5),
    "exact_ndcg@5": lambda rows: ndcg_at(rows, 5),
    "exact_mrr": reciprocal_rank,
}
GENERATED: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "generated_hr@1": generated_hit,
    "valid_ratio": valid,
    "generated_hr@1_contains": lambda rows: generated_hit(rows, "answered_contains"),
    "valid_ratio_contains": lambda rows: valid(rows, "answered_contains"),
}


def per_user(rows: pa.Table) -> dict[str, np.ndarray]:
    """Every metric that the rows allow, one value a row."""
    functions = dict(EXACT)
    if rows.num_rows and rows["answer"].null_count == 0:
        functions |= GENERATED
    return {name: function(rows) for name, function in functions.items()}


def means(rows: pa.Table) -> dict[str, float]:
    """Mean of every metric over the rows."""
    return {name: float(values.mean()) for name, values in per_user(rows).items()}
