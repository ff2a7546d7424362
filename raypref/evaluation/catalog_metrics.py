"""Metrics over the whole catalog, one value a user, from rows with the columns of `catalog.CATALOG_ROWS`.

`catalog_*` come from ranking all items (`metrics.EXACT` ranks the example's candidates alone); `constrained_*` from
generation that can say nothing but a title. Those of a whole system's lists together are in `beyond_accuracy`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from raypref.evaluation.catalog import STRATA

CUTOFFS = (1, 5, 10, 20)
K = 10


def catalog_hit_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1[rank <= k]` of the target among all items. HR@k is its mean.

    Edge cases: a tie or a NaN puts the target last among the tied; with M < k items it is 1.
    """
    return (_rank(rows) <= k).astype(np.float64)


def catalog_ndcg_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1[rank <= k] / log2(1 + rank)` among all items: NDCG@k with one relevant item (Järvelin & Kekäläinen
    2002).
    """
    rank = _rank(rows)
    return np.where(rank <= k, 1 / np.log2(1.0 + rank), 0.0)


def catalog_mrr_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1[rank <= k] / rank` among all items: MRR@k (Voorhees 1999, cut off)."""
    rank = _rank(rows)
    return np.where(rank <= k, 1.0 / rank, 0.0)


def catalog_hit_of(rows: pa.Table, stratum: int, k: int = K) -> np.ndarray:
    """(n,) `catalog_hit_at` where the target is as famous as `stratum` says (`Catalog.strata`); NaN of other rows."""
    return np.where(rows["target_stratum"].to_numpy() == stratum, catalog_hit_at(rows, k), np.nan)


def novelty(rows: pa.Table, k: int = K) -> np.ndarray:
    """(n,) mean self-information of the first k items, `-log2 P(a training user met it)` in bits (Zhou et al. 2010).

    Not bounded, and neither sign is better: random items are the most novel. Edge cases: fewer than k items: of those;
    none: NaN.
    """
    lists = [row[:k] for row in rows["top_information"].to_pylist()]
    return np.array([np.mean(row) if row else np.nan for row in lists], dtype=np.float64)


def diversity(rows: pa.Table, k: int = K) -> np.ndarray:
    """(n,) intra-list diversity of the first k: the mean over pairs of `1 - |A & B| / |A | B|`, A and B the items'
    genres (Ziegler et al. 2005, with Jaccard's distance). Between 0 (all of the same genres) and 1.

    Edge cases: items without genres stand in no pair; no pair, or a data set without genres: NaN.
    """
    return np.array([_diversity(row and row[:k]) for row in rows["top_genres"].to_pylist()], dtype=np.float64)


def _diversity(items: list[list[int]] | None) -> float:
    known = [set(genres) for genres in items or [] if genres]
    pairs = [1 - len(a & b) / len(a | b) for i, a in enumerate(known) for b in known[:i]]
    return float(np.mean(pairs)) if pairs else float("nan")


def constrained_hit(rows: pa.Table) -> np.ndarray:
    """(n,) 1 where constrained greedy generation names the target. HR@1 is its mean; ValidRatio is 1."""
    hits: np.ndarray = rows["said_item"].to_numpy() == rows["target_item"].to_numpy()
    return hits.astype(np.float64)


def constrained_outside(rows: pa.Table) -> np.ndarray:
    """(n,) share of the model's probability that constrained generation cut away along the title that it said,
    `1 - exp(said_inside)`: how often the model, sampling freely along this title, would have left the set. 0: it would
    have said a title of the set anyway. Smaller is better.
    """
    inside: np.ndarray = rows["said_inside"].to_numpy().astype(np.float64)
    return -np.expm1(inside)


def constrained_beam_hit_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) 1 where one of the first k constrained beams names the target; of fewer than k beams, all count."""
    said = zip(rows["said_beams"].to_pylist(), rows["target_item"].to_pylist())
    return np.array([float(target in beams[:k]) for beams, target in said])


def _rank(rows: pa.Table) -> np.ndarray:
    rank: np.ndarray = rows["catalog_rank"].to_numpy()
    return rank


CATALOG: dict[str, Callable[[pa.Table], np.ndarray]] = {
    **{f"catalog_hr@{k}": partial(catalog_hit_at, k=k) for k in CUTOFFS},
    **{f"catalog_ndcg@{k}": partial(catalog_ndcg_at, k=k) for k in CUTOFFS},
    **{f"catalog_mrr@{k}": partial(catalog_mrr_at, k=k) for k in CUTOFFS},
    **{f"catalog_hr@{K}_{name}": partial(catalog_hit_of, stratum=n) for n, name in enumerate(STRATA)},
    f"catalog_novelty@{K}": novelty,
    f"catalog_diversity@{K}": diversity,
}
CONSTRAINED: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "constrained_hr@1": constrained_hit,
    "constrained_outside": constrained_outside,
}
CONSTRAINED_BEAM: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "constrained_beam_hr@5": partial(constrained_beam_hit_at, k=5),
}


def catalog_functions(part: pa.Table) -> dict[str, Callable[[pa.Table], np.ndarray]]:
    """Those that the rows of one split allow."""

    def there(name: str) -> bool:
        return name in part.column_names and part[name].null_count == 0

    found = dict(CATALOG) if there("catalog_rank") else {}
    if there("said_item"):
        found |= CONSTRAINED
    if there("said_beams"):
        found |= CONSTRAINED_BEAM
    return found
