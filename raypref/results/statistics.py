"""Intervals, tests and effect sizes of per-user metrics. One function each: formula, source, edge cases.

Two sources of chance are kept apart. Over SEEDS: would another training run say the same? Over USERS: would other users
say the same of these very models? `raypref.results.crossed` has the test that answers for both at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

RESAMPLES = 2000
_CHUNK = 4_000_000  # drawn indices held at once


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; NaN bounds where none can be given, and `note` says why."""

    mean: float
    low: float
    high: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Test:
    """A two-sided test of "no difference" between two systems, first minus second."""

    __test__ = False  # no pytest class

    difference: float
    low: float
    high: float
    p: float
    effect: float
    n: int
    note: str = ""
    error: float = math.nan
    """Standard error of the difference; NaN where the test has none (ranks)."""
    freedom: float = math.inf
    """Degrees of freedom of `difference / error`, which is t-distributed; infinite: normal."""
    step: float = 0.0
    """The least that a user's difference can be if it is not 0; 0: as little as one likes, or not known."""


def seed_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t over seeds: `mean ± t_{n-1} s / sqrt(n)`, s with n - 1 (Student 1908).

    Edge cases: one seed has no spread, so the bounds are NaN and the note says so; equal values give a width of 0;
    NaN values are left out; no values give NaN.
    """
    seen = _finite(values)
    n = len(seen)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no finished seed")
    if n == 1:
        return Interval(float(seen[0]), math.nan, math.nan, 1, "one seed: no interval over seeds")
    half = scipy.stats.t.ppf(0.5 + confidence / 2, n - 1) * seen.std(ddof=1) / math.sqrt(n)
    return Interval(float(seen.mean()), float(seen.mean() - half), float(seen.mean() + half), n)


def bootstrap_means(
    values: ArrayLike, users: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """(resamples, k) means of `values` (k, n) over users drawn with replacement, the same draws for all k.

    Args:
        users: (n,) whose each value is; a user's values are drawn together (cluster bootstrap, Davison & Hinkley
            1997, 3.8). None: one value a user.
    """
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if users is None:
        sums, counts = array, np.ones(array.shape[1])
    else:
        _, index = np.unique(np.asarray(users), return_inverse=True)
        counts = np.bincount(index).astype(np.float64)
        sums = np.stack([np.bincount(index, weights=row) for row in array])
    n = len(counts)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, _CHUNK // n)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        drawn = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        means.append(weights @ sums.T / (weights @ counts)[:, None])
    return np.concatenate(means)


def user_interval(
    values: ArrayLike,
    users: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over users (Efron 1979) of the mean of `values` (n,).

    Edge cases: NaN values are left out; one user gives NaN bounds. Where all values are 0, or all are 1, no draw
    differs and the bootstrap would be sure of itself: the bounds are then the exact binomial ones of n users (Clopper
    & Pearson 1934), `[0, 1 - ((1 - confidence)/2)^(1/n)]` for 0. Other equal values give a width of 0.
    """
    return user_intervals(np.asarray(values, dtype=np.float64).reshape(1, -1), users, confidence, resamples, seed)[0]


def user_intervals(
    values: ArrayLike,
    users: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """`user_interval` of each row of `values` (k, n), from the same draws where the same users have values."""
    array = np.asarray(values, dtype=np.float64)
    owners = np.arange(array.shape[1]) if users is None else np.asarray(users)
    patterns, group = np.unique(np.isfinite(array), axis=0, return_inverse=True)
    found: dict[int, Interval] = {}
    for number, keep in enumerate(patterns):
        rows = np.flatnonzero(group.ravel() == number)
        seen, n = array[np.ix_(rows, keep)], len(np.unique(owners[keep]))
        if n < 2:
            note = "one user: no interval" if n else "no users"
            found |= {int(i): Interval(_mean(row), math.nan, math.nan, n, note) for i, row in zip(rows, seen)}
            continue
        means = bootstrap_means(seen, None if users is None else owners[keep], resamples, seed)
        bounds = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
        for i, row, low, high in zip(rows, seen, *bounds):
            found[int(i)] = Interval(_mean(row), float(low), float(high), n)
            if np.ptp(row) == 0 and row[0] in (0, 1):
                exact = scipy.stats.binomtest(n * int(row[0]), n).proportion_ci(confidence, method="exact")
                found[int(i)] = Interval(float(row[0]), exact.low, exact.high, n, "all users alike: exact binomial")
    return [found[i] for i in range(len(array))]


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    users: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Test:
    """Bootstrap over users of the mean of `first - second`, user by user (Efron & Tibshirani 1993, ch. 16).

    `p = 2 min(P(mean* <= 0), P(mean* >= 0))`, each share with 1 added to its count, so that p is never 0; the
    interval is the percentile one. Effect: Cohen's d of the differences, `mean / s`.

    Edge cases: no user differs: p = 1, effect 0; fewer than 2 users: NaN.
    """
    difference = _paired(first, second)
    d, n = _mean(difference), len(difference)
    if n < 2:
        return Test(d, math.nan, math.nan, math.nan, math.nan, n, "fewer than 2 users: no test")
    if not difference.any():
        return Test(0.0, 0.0, 0.0, 1.0, 0.0, n, "no user differs")
    means = bootstrap_means(difference, users, resamples, seed)[:, 0]
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p, error = min(1.0, 2 * (tail + 1) / (resamples + 1)), float(means.std())
    return Test(d, float(low), float(high), p, cohens_d(difference), n, error=error)


def mcnemar(first: ArrayLike, second: ArrayLike) -> Test:
    """McNemar's exact test of two systems' hits (0 or 1) on the same users (McNemar 1947, Edwards' exact form).

    With b users that only `first` hits and c that only `second` hits, b is binomial(b + c, 1/2) under no difference:
    `p = min(1, 2 P(X <= min(b, c)))`. The interval of the difference is Wald's, `(b - c)/n ± z sqrt(b + c - (b -
    c)^2/n)/n` (Fleiss 1981). Effect: `(b - c)/(b + c)`, -1 to 1.

    Edge cases: b + c = 0: p = 1, effect 0. Values other than 0 and 1 are refused.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    _paired(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test is for hits of 0 and 1")
    n, only_first, only_second = len(a), int((a > b).sum()), int((b > a).sum())
    differ = only_first + only_second
    if n == 0:
        return Test(math.nan, math.nan, math.nan, math.nan, math.nan, 0, "no users: no test")
    p = min(1.0, 2 * float(scipy.stats.binom.cdf(min(only_first, only_second), differ, 0.5))) if differ else 1.0
    d = (only_first - only_second) / n
    error = math.sqrt(differ - (only_first - only_second) ** 2 / n) / n
    half = scipy.stats.norm.ppf(0.975) * error
    effect = (only_first - only_second) / differ if differ else 0.0
    return Test(d, d - half, d + half, p, effect, n, f"{only_first} users to {only_second}", error, step=1.0)


def wilcoxon(first: ArrayLike, second: ArrayLike) -> Test:
    """Wilcoxon's signed-rank test of per-user values such as NDCG (Wilcoxon 1945), ties dropped; exact if they are few.

    Effect: the matched-pairs rank-biserial correlation, `(W+ - W-)/(W+ + W-)` (Kerby 2014), -1 to 1. No interval: NaN.

    Edge cases: no user differs: p = 1, effect 0.
    """
    difference = _paired(first, second)
    n = len(difference)
    if n == 0:
        return Test(math.nan, math.nan, math.nan, math.nan, math.nan, 0, "no users: no test")
    d, differ = float(difference.mean()), difference[difference != 0]
    if not len(differ):
        return Test(0.0, math.nan, math.nan, 1.0, 0.0, n, "no user differs")
    ranks = scipy.stats.rankdata(np.abs(differ))
    effect = float((ranks * np.sign(differ)).sum() / ranks.sum())
    p = float(scipy.stats.wilcoxon(differ, zero_method="wilcox").pvalue)
    return Test(d, math.nan, math.nan, p, effect, n)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979): `max_{j <= i} min(1, (m - j + 1) p_(j))` for the i-th smallest
    of m.

    Edge cases: NaN (no test was possible) stays NaN and counts for nothing; none gives none.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, math.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = np.minimum(1.0, values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.maximum.accumulate(steps) if len(order) else steps
    return adjusted


def hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Hochberg's step-up adjusted p-values (Hochberg 1988): `min_{j >= i} (m - j + 1) p_(j)` for the i-th smallest of
    m.

    Where all are small all may be rejected, though none is as small as Holm asks for. It holds where tests depend
    positively (Sarkar 1998), as those of several settings with one reference do. Edge cases: as `holm`.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, math.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = np.minimum(1.0, values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum.accumulate(steps[::-1])[::-1] if len(order) else steps
    return adjusted


def cohens_d(differences: ArrayLike) -> float:
    """Cohen's d of paired differences, `mean / s` (Cohen 1988, d_z). 0 if none differs, infinite if all do alike."""
    d = _finite(differences)
    if len(d) < 2:
        return math.nan
    spread, mean = float(d.std(ddof=1)), float(d.mean())
    if spread > 0:
        return mean / spread
    return math.copysign(math.inf, mean) if mean else 0.0


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _paired(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must be of one length: {a.shape} and {b.shape}")
    return a - b
