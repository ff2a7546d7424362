"""What is asked of a whole set of rows, or of two models' rows on the same examples: groups, margins, hard errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from raypref.evaluation.metrics import picked

LENGTHS = (5, 10, 20, 50)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Groups:
    """A metric by group of users."""

    table: pd.DataFrame
    """Columns: group (text), users, mean."""
    variance: float
    """Of the groups' means, each group counting alike, divisor the number of groups; NaN with fewer than 2."""


def by_history_length(rows: pa.Table, values: np.ndarray, edges: Sequence[int] = LENGTHS) -> Groups:
    """Mean of `values` (n,) by length of the history, and its variance across the groups (RecPO figure 4d: a steady
    model has a small one).

    Groups: up to the first edge, up to the second ..., above the last. Edge cases: empty groups are left out; rows with
    a NaN value count nowhere.
    """
    lengths = rows["history_length"].to_numpy()
    group = np.searchsorted(np.asarray(edges), lengths, side="left")
    names = [f"<= {edges[0]}", *(f"{a + 1}-{b}" for a, b in itertools.pairwise(edges)), f"> {edges[-1]}"]
    found = []
    for number, name in enumerate(names):
        seen = values[(group == number) & np.isfinite(values)]
        if len(seen):
            found.append({"group": name, "users": len(seen), "mean": float(seen.mean())})
    table = pd.DataFrame(found, columns=["group", "users", "mean"])
    return Groups(table, float(table["mean"].var(ddof=0)) if len(table) > 1 else float("nan"))


def reward_margins(rows: pa.Table, reference: pa.Table | None = None) -> np.ndarray:
    """(n,) reward of the target less the mean reward of the other candidates, in nats: one value a user.

    A reward is the log-ratio to `reference`, the SFT model's rows on the same examples: `log pi(y|x) - log ref(y|x)`;
    without it, the log-prob itself (objectives without reference).

    Edge case: one candidate leaves nothing to compare with: NaN.

    Raises:
        ValueError: the two hold different examples.
    """
    gaps = _gaps(rows, reference)
    return np.array([own.mean() if len(own) else np.nan for own in gaps], dtype=np.float64)


def reward_gaps(rows: pa.Table, reference: pa.Table | None = None) -> np.ndarray:
    """(pairs,) reward of the target less that of each other candidate, in nats, of all rows one after the other (EAPO
    C.1, there over the training data). `reference` and errors as in `reward_margins`, whose mean is the same where the
    lists are of one length; the spread is not.
    """
    return np.concatenate([np.zeros(0), *_gaps(rows, reference)])


def _gaps(rows: pa.Table, reference: pa.Table | None) -> list[np.ndarray]:
    scores = _scores(rows)
    if reference is not None:
        _check_same(rows, reference)
        scores = [own - other for own, other in zip(scores, _scores(reference))]
    return [s[t] - np.delete(s, t) for s, t in zip(scores, rows["target"].to_pylist())]


def margin_distribution(margins: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, share above 0 (reward accuracy) and quantiles of margins; NaN if there are none."""
    seen = margins[np.isfinite(margins)]
    if not len(seen):
        return {name: float("nan") for name in ("mean", "std", "share_positive", *(f"q{q:g}" for q in QUANTILES))}
    found = {"mean": float(seen.mean()), "std": float(seen.std()), "share_positive": float((seen > 0).mean())}
    return found | {f"q{q:g}": float(np.quantile(seen, q)) for q in QUANTILES}


def high_expert_error_share(rows: pa.Table, expert: pa.Table, top: float = 0.2) -> float:
    """Of the users whom the model gets wrong, the share whose wrong choice the expert scores among the best `top` of
    the negatives (EAPO C.3: errors on "high-preference negative samples"; the paper names no bound, ours is a fifth).

    `expert`: a recommender's rows on the same examples. Per list `ceil(top (C - 1))` negatives count as high, ties
    beyond the last of them included.

    Edge cases: users without a choice (a tie at the top) count as no error; no error at all: NaN.

    Raises:
        ValueError: the two hold different examples.
    """
    _check_same(rows, expert)
    errors = high = 0
    for choice, target, scores in zip(picked(rows).tolist(), rows["target"].to_pylist(), _scores(expert)):
        if choice in (-1, target):
            continue
        negatives = np.sort(np.delete(scores, target))[::-1]
        errors += 1
        high += bool(scores[choice] >= negatives[int(np.ceil(top * len(negatives))) - 1])
    return high / errors if errors else float("nan")


def generation_gap(rows: pa.Table) -> dict[str, float]:
    """Why HR@1 by generation is not HR@1 by exact ranking: shares of the rows, which add up to the difference.

    invalid: the answer names no candidate. other: it names one that is not the likeliest. Of these, `gained` are right
    by generation alone and `lost` by exact ranking alone: `difference = gained - lost`.
    """
    answered, target = rows["answered"].to_numpy(), rows["target"].to_numpy()
    generated, exact = answered == target, rows["rank"].to_numpy() == 1
    return {
        "difference": float(generated.mean() - exact.mean()),
        "gained": float((generated & ~exact).mean()),
        "lost": float((exact & ~generated).mean()),
        "invalid": float((answered < 0).mean()),
        "other": float(((answered >= 0) & (answered != picked(rows))).mean()),
    }


def _scores(rows: pa.Table) -> list[np.ndarray]:
    return [np.array(scores, dtype=np.float64) for scores in rows["logps"].to_pylist()]


def _check_same(rows: pa.Table, other: pa.Table) -> None:
    for name in ("split", "example", "candidates"):
        if rows[name].to_pylist() != other[name].to_pylist():
            raise ValueError(f"the rows are of different examples: column {name} differs")
