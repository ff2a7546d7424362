"""Is one setting better than another, for other seeds AND other users? The test behind a table's marks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from raypref.results.statistics import Test, cohens_d


@dataclass(frozen=True)
class SeedSpread:
    """How much models of one setting differ by their seed alone, pooled over settings."""

    variance: float
    """Of a model's mean over users, from seed to seed; users' own chance included."""
    rest: float
    """Of one user's value under one model, beyond what user and model explain."""
    freedom: int
    """Degrees of freedom of `variance`: seeds less settings."""
    moved: float = math.nan
    """Of differences with one seed: the mean size of a user's, root mean square over pairs of settings."""


def seed_spread(settings: Iterable[ArrayLike]) -> SeedSpread | None:
    """The pooled spread of settings' values (S_g, U), as the within-group mean squares of an analysis of variance.

    A few seeds of one setting tell next to nothing of its spread; those of all settings together do, if settings spread
    alike. None if no setting has two seeds.
    """
    between = within = 0.0
    freedom = freedom_within = 0
    for values in settings:
        y = _complete(values)
        seeds, users = y.shape
        if seeds < 2 or users < 2:
            continue
        means = y.mean(axis=1)
        between += float(((means - means.mean()) ** 2).sum())
        within += float(((y - y.mean(axis=0) - means[:, None] + y.mean()) ** 2).sum())
        freedom += seeds - 1
        freedom_within += (seeds - 1) * (users - 1)
    return SeedSpread(between / freedom, within / freedom_within, freedom) if freedom else None


def crossed_test(
    first: ArrayLike,
    second: ArrayLike,
    spread: SeedSpread,
    fixed: bool = False,
    first_fixed: bool = False,
    own_spread: bool = True,
) -> Test:
    """Difference of two settings' means with seeds and users as crossed random effects; t with Satterthwaite's freedom.

    `first` (S1, U) and `second` (S2, U): values by seed and user, the same users in both. With D_u the difference of
    user u's means over seeds, h = 1/S1 + 1/S2, V and e the spread's `variance` and `rest`, nu its freedom:
        A = var_u(D_u) / U,  C = h e / U,  B = max(h V, h V', C),  V' the two settings' own estimate of V,
        var = A + B - C,  freedom = var^2 / (A^2 / (U-1) + B^2 / nu + C^2 / (nu (U-1))).
    A holds users' chance, B seeds', C what both count (Dorfman, Berbaum & Metz 1992 for readers by cases; Satterthwaite
    1946). B is never below C, as no variance is below 0, and V' guards against a setting that spreads more than the
    others. Seeds are not paired: that two models saw the data in one order can only make the test more careful.
    `fixed`: `second` is one given model (SFT, popularity), not one of many that other seeds would have given, and so
    has no share in h. `first_fixed`: likewise `first`. `own_spread`: V' counts; else V alone.

    Effect: Cohen's d of D_u. Edge cases: users with NaN anywhere are left out; no user differs: p = 1; fewer than 2
    users: NaN.
    """
    one, two = np.atleast_2d(np.asarray(first, dtype=float)), np.atleast_2d(np.asarray(second, dtype=float))
    both = np.isfinite(one).all(axis=0) & np.isfinite(two).all(axis=0)
    one, two = one[:, both], two[:, both]
    users = int(both.sum())
    by_user = one.mean(axis=0) - two.mean(axis=0)
    mean = float(by_user.mean()) if users else math.nan
    if users < 2:
        return Test(mean, math.nan, math.nan, math.nan, math.nan, users, "fewer than 2 users: no test")
    share = (0 if first_fixed else 1 / len(one)) + (0 if fixed else 1 / len(two))
    a, c = float(by_user.var(ddof=1)) / users, share * spread.rest / users
    own = seed_spread([one] if fixed else [one, two]) if own_spread else None
    b = max(share * spread.variance, share * own.variance if own else 0.0, c)
    variance = a + b - c
    if variance == 0:
        return Test(mean, mean, mean, 0.0 if mean else 1.0, cohens_d(by_user), users, "all users and seeds alike", 0.0)
    parts = a**2 / (users - 1) + b**2 / spread.freedom + c**2 / (spread.freedom * (users - 1))
    freedom, error = variance**2 / parts, math.sqrt(variance)
    half = float(scipy.special.stdtrit(freedom, 0.975)) * error
    p = float(2 * scipy.special.stdtr(freedom, -abs(mean) / error))
    return Test(mean, mean - half, mean + half, p, cohens_d(by_user), users, "", error, freedom)


def _complete(values: ArrayLike) -> np.ndarray:
    array = np.atleast_2d(np.asarray(values, dtype=float))
    return array[:, np.isfinite(array).all(axis=0)]
