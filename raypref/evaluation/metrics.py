"""Metrics as functions of the per-user rows: one value a user, so that any mean and test can be recomputed.

`generated_*` come from greedy generation, as the papers report them; `beam_*` from beam search; `exact_*` from scoring
and ranking all candidates. They are never mixed. In all of them greater is better, a tie counts against the model, and
an answer that names no candidate is never right. NaN: the question was not asked of that row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.evaluation.catalog_metrics import catalog_functions
from raypref.evaluation.order_metrics import ORDERED

Metric = Callable[[pa.Table], np.ndarray]


def hit_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1[rank <= k]` of the target by exact ranking. HR@k is its mean (S-DPO, RecPO: k = 1).

    Edge cases: with C < k candidates it is 1. Tied or NaN scores put the target last among the tied.
    """
    hits: np.ndarray = rows["rank"].to_numpy() <= k
    return hits.astype(np.float64)


def ndcg_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1[rank <= k] / log2(1 + rank)`: NDCG@k (Järvelin & Kekäläinen 2002) with one relevant item, whose ideal
    DCG is 1. Edge cases as `hit_at`.
    """
    rank: np.ndarray = rows["rank"].to_numpy()
    return np.where(rank <= k, 1 / np.log2(1.0 + rank), 0.0)


def reciprocal_rank(rows: pa.Table) -> np.ndarray:
    """(n,) `1 / rank` of the target among all candidates. MRR is its mean (Voorhees 1999)."""
    rank: np.ndarray = rows["rank"].to_numpy()
    return 1.0 / rank


def generated_hit(rows: pa.Table, rule: str = "answered") -> np.ndarray:
    """(n,) 1 where the generated answer names the target. HR@1 is its mean, over all examples (S-DPO, RecPO; LLaRA's
    published code divides by the valid answers alone).

    Args:
        rule: `answered` (the answer is the title) or `answered_contains` (it contains one title only; LLaRA, S-DPO).
    """
    hits: np.ndarray = rows[rule].to_numpy() == rows["target"].to_numpy()
    return hits.astype(np.float64)


def valid(rows: pa.Table, rule: str = "answered") -> np.ndarray:
    """(n,) 1 where the generated answer names one candidate. ValidRatio is its mean (LLaRA, S-DPO, RecPO)."""
    named: np.ndarray = rows[rule].to_numpy() >= 0
    return named.astype(np.float64)


def beam_hit_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) 1 where one of the first k beams names the target (EAPO: HR@5 with 5 beams).

    Edge cases: beams that name no candidate, or one that an earlier beam named, keep their place; of fewer than k
    beams, all count.
    """
    return np.isfinite(_beam_rank(rows, k)).astype(np.float64)


def beam_ndcg_at(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) `1 / log2(1 + place)` of the first of k beams that names the target, 0 where none does (EAPO: NDCG@5)."""
    return 1 / np.log2(1 + _beam_rank(rows, k))


def _beam_rank(rows: pa.Table, k: int) -> np.ndarray:
    """(n,) 1-based place of the first beam that names the target; infinite where none of the first k does."""
    named = zip(rows["beams"].to_pylist(), rows["target"].to_pylist())
    return np.array([beams.index(target) + 1 if target in beams[:k] else np.inf for beams, target in named])


def picked(rows: pa.Table) -> np.ndarray:
    """(n,) index of the candidate that exact ranking puts first, -1 where none stands alone at the top (a tie, NaN)."""
    if not rows.num_rows:
        return np.zeros(0, dtype=np.int64)
    scores, starts, owner = _flat(rows["logps"])
    top = scores == np.fmax.reduceat(scores, starts)[owner]
    alone = (np.add.reduceat(top, starts, dtype=np.int64) == 1) & ~np.logical_or.reduceat(np.isnan(scores), starts)
    place = np.arange(len(scores)) - starts[owner]
    first = np.minimum.reduceat(np.where(top, place, len(scores)), starts)
    return np.where(alone, first, -1)


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a list column without empty lists, where each list starts, and the row of each value."""
    lists = column.combine_chunks()
    lengths = np.asarray(pc.list_value_length(lists))
    starts = np.cumsum(lengths) - lengths
    return np.asarray(pc.list_flatten(lists)), starts, np.repeat(np.arange(len(lengths)), lengths)


def avoided(rows: pa.Table) -> np.ndarray:
    """(n,) 1 where some candidate is scored above the disliked one (RecPO E.4, avoidance: "whether it favors the
    randomly sampled candidates over the unfavorable item").

    The row's `target` is the disliked item, so this is not `1 - hit_at(rows, 1)`: there a tie at the top would count as
    avoided. Edge cases: all scores alike, a NaN score of the disliked item, or no other candidate: 0.
    """
    if not rows.num_rows:
        return np.zeros(0)
    scores, starts, owner = _flat(rows["logps"])
    own = scores[starts + rows["target"].to_numpy()]
    return np.logical_or.reduceat(scores > own[owner], starts).astype(np.float64)


def generated_avoided(rows: pa.Table) -> np.ndarray:
    """(n,) 1 where the generated answer names a candidate other than the disliked one, the row's target.

    Edge case: an answer that names no candidate is 0, for it favours nothing; counting it would reward babble.
    """
    return valid(rows) * (1 - generated_hit(rows))


def agreement(rows: pa.Table) -> np.ndarray:
    """(n,) 1 where greedy generation names the candidate that exact ranking puts first.

    Where it is 0, either the answer names no candidate, or the decoder took the likeliest first token and could not go
    back: the sum over the whole title is greater for another one.
    """
    found: np.ndarray = rows["answered"].to_numpy() == picked(rows)
    return (found & (rows["answered"].to_numpy() >= 0)).astype(np.float64)


def popularity_bias(rows: pa.Table, column: np.ndarray | None = None) -> np.ndarray:
    """(n,) `LogPop(recommended) - mean LogPop(history)`, LogPop = log(1 + training count) (NAPO appendix D).

    Not bounded, and neither sign is better: 0 recommends items as famous as those of the history. The papers report it
    relative to the SFT model.

    Args:
        column: (n,) index of the recommended candidate; None: what exact ranking puts first.

    Edge cases: nothing recommended (a tie at the top, an answer that names no candidate) or no history: NaN.
    """
    chosen = picked(rows) if column is None else column
    logpop, starts, _ = _flat(rows["logpop"])
    history: np.ndarray = rows["history_logpop"].to_numpy(zero_copy_only=False).astype(np.float64)
    popular = np.full(rows.num_rows, np.nan)
    popular[chosen >= 0] = logpop[(starts + chosen)[chosen >= 0]]
    return popular - history


def generated_popularity_bias(rows: pa.Table) -> np.ndarray:
    """`popularity_bias` of the generated answer."""
    return popularity_bias(rows, rows["answered"].to_numpy())


EXACT: dict[str, Metric] = {
    "exact_hr@1": lambda rows: hit_at(rows, 1),
    "exact_hr@5": lambda rows: hit_at(rows, 5),
    "exact_ndcg@5": lambda rows: ndcg_at(rows, 5),
    "exact_mrr": reciprocal_rank,
    "exact_popularity_bias": popularity_bias,
}
GENERATED: dict[str, Metric] = {
    "generated_hr@1": generated_hit,
    "valid_ratio": valid,
    "generated_hr@1_contains": lambda rows: generated_hit(rows, "answered_contains"),
    "valid_ratio_contains": lambda rows: valid(rows, "answered_contains"),
    "generated_popularity_bias": generated_popularity_bias,
    "agreement": agreement,
}
BEAM: dict[str, Metric] = {
    "beam_hr@5": lambda rows: beam_hit_at(rows, 5),
    "beam_ndcg@5": lambda rows: beam_ndcg_at(rows, 5),
}
# Probes: sets with a question of their own, so only its metrics are asked of their rows.
PROBE_METRICS: dict[str, Mapping[str, Metric]] = {
    "adherence": {"exact_adherence": EXACT["exact_hr@1"]},
    "avoidance": {"exact_avoidance": avoided},
    "aversion": {"exact_aversion": EXACT["exact_hr@1"]},
}
GENERATED_PROBE_METRICS: dict[str, Mapping[str, Metric]] = {
    "adherence": {"generated_adherence": generated_hit, "valid_ratio": valid},
    "avoidance": {"generated_avoidance": generated_avoided, "valid_ratio": valid},
    "aversion": {"generated_aversion": generated_hit, "valid_ratio": valid},
}


def per_user(rows: pa.Table) -> dict[str, np.ndarray]:
    """Every metric that the rows allow, one value a row; NaN where it is not asked of the row's split."""
    splits = rows["split"].to_numpy(zero_copy_only=False)
    found: dict[str, np.ndarray] = {}
    for split in dict.fromkeys(splits.tolist()):
        chosen = np.flatnonzero(splits == split)
        part = rows.take(pa.array(chosen))
        for name, function in _functions(part, split).items():
            found.setdefault(name, np.full(rows.num_rows, np.nan))[chosen] = function(part)
    return found


def _functions(part: pa.Table, split: str) -> dict[str, Metric]:
    ranked = part["rank"].null_count == 0
    functions = dict(PROBE_METRICS.get(split, EXACT)) if ranked else {}
    if part["answer"].null_count == 0:
        functions |= GENERATED_PROBE_METRICS.get(split, GENERATED)
        if not ranked:
            functions.pop("agreement", None)
    if part["beams"].null_count == 0 and split not in PROBE_METRICS:
        functions |= BEAM
    if "order_logps" in part.column_names and part["order_logps"].null_count == 0:
        functions |= ORDERED
    return functions | catalog_functions(part)


def means(rows: pa.Table) -> dict[str, float]:
    """Mean of every metric over the rows that have a value of it; NaN where none has."""
    return {name: mean(values) for name, values in per_user(rows).items()}


def mean(values: np.ndarray) -> float:
    """Mean of the values that are there; NaN if none is."""
    seen = values[np.isfinite(values)]
    return float(seen.mean()) if len(seen) else float("nan")
