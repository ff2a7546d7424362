"""Settings trained with the same seeds saw the same data in the same order: their differences, seed by seed.

What a seed does to all settings alike, a lucky order say, is no part of a difference. On our own sweeps this leaves a
third of the variance that models of separate seeds would have (docs/evaluation.md).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from raypref.results.crossed import SeedSpread, crossed_test, seed_spread
from raypref.results.power import Spread
from raypref.results.statistics import Test, cohens_d

UNLIKE = 0.01
"""Level at which a spread counts as another one than it was pooled with, or assumed."""


@dataclass(frozen=True)
class Excess:
    """What is known before a sweep of how much a difference of two settings moves from seed to seed, beyond chance.

    Settings that change few answers have little to move; one that breaks its model with some seeds and not with others
    changes many. So a part of the variance is as the cube of the share of answers that two models change.
    """

    variance: float
    """Of the difference's mean over all users there could be, seed to seed."""
    uncertainty: float
    """Standard error of `variance`."""
    cube: float = 0.0
    """What is added, over the cubed mean size of a user's difference, up to SEEN."""
    cube_uncertainty: float = 0.0
    """Standard error of `cube`."""
    source: str = "assumed"
    """Where it is from, for people."""

    def of(self, differences: np.ndarray) -> tuple[float, float]:
        """The variance of differences (S, U), and its standard error."""
        cubed = min(float(np.abs(differences).mean()), SEEN) ** 3
        return self.variance + self.cube * cubed, math.hypot(self.uncertainty, self.cube_uncertainty * cubed)


SEEN = 0.12
"""The greatest share of changed answers that `ASSUMED` was found with."""
ASSUMED = Excess(2.5e-6, 3.5e-6, 0.25, 0.15, "assumed, as in the sweeps of docs/results.md")
"""Of HR@1. In the six sweeps of docs/results.md, 3 seeds each, with 1 to 4 % of answers changed, estimates run from
-1.2e-5 to 1.2e-5, mean -2e-6 with a standard error of as much; in its main study (generated HR@1, 5 %) the mean is
1.4e-5, in the default sweep, whose greatest λ breaks the model with some seeds more than with others, 3.2e-4 (12 %)."""


def difference_spread(methods: Sequence[pd.DataFrame]) -> SeedSpread | None:
    """Spread of `first - second` with one seed, pooled over all methods; each is (seeds, users), seeds its index.

    Means x_ms are fitted as a method's plus a seed's share (randomized blocks: Fisher 1935, seeds being the blocks),
    also where methods have different numbers of seeds. With R the projection onto what that leaves, of rank f: the mean
    square V of R x has f degrees of freedom, and a difference has 2 V; likewise of each user's values.

    Edge cases: methods with one seed and seeds of one method tell nothing; where nothing is left (f = 0): None.
    """
    seeded = [values for values in methods if len(values) > 1]
    if len(seeded) < 2:
        return None
    users = seeded[0].columns
    for values in seeded[1:]:
        users = users.intersection(values.columns)
    cells = np.concatenate([values[users].to_numpy(dtype=float) for values in seeded])
    cells = cells[:, np.isfinite(cells).all(axis=0)]
    if cells.shape[1] < 2:
        return None
    method = np.repeat(np.arange(len(seeded)), [len(values) for values in seeded])
    _, seed = np.unique(np.concatenate([values.index.to_numpy() for values in seeded]), return_inverse=True)
    return two_way_spread(cells, method, seed)


def two_way_spread(cells: np.ndarray, method: np.ndarray, seed: np.ndarray) -> SeedSpread | None:
    """The same of cells (n, U), each with the number of its method and of its seed (n,)."""
    design = np.concatenate([np.eye(method.max() + 1)[method], np.eye(seed.max() + 1)[seed]], axis=1)
    rest = np.eye(len(cells)) - design @ np.linalg.pinv(design)
    freedom = round(float(np.trace(rest)))
    if freedom < 1:
        return None
    left = rest @ cells
    means = left.mean(axis=1)
    within = float(((left - means[:, None]) ** 2).sum()) / (freedom * (cells.shape[1] - 1))
    return SeedSpread(2 * float((means**2).sum()) / freedom, 2 * within, freedom, _moved(cells, method, seed))


def _moved(cells: np.ndarray, method: np.ndarray, seed: np.ndarray) -> float:
    """Mean size of a user's difference between two methods with one seed: root mean square over pairs of methods."""
    rows: dict[int, dict[int, np.ndarray]] = {}
    for values, of, number in zip(cells, method.tolist(), seed.tolist()):
        rows.setdefault(of, {})[number] = values
    squares = []
    for first, second in itertools.combinations(rows.values(), 2):
        sizes = [float(np.abs(first[number] - second[number]).mean()) for number in first.keys() & second.keys()]
        squares += [(sum(sizes) / len(sizes)) ** 2] if sizes else []
    return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


def _as_of(spread: SeedSpread, differences: np.ndarray) -> SeedSpread:
    """What a spread over all settings says of two of them, whose differences these are: its parts are as great as they
    change answers, chance by as much and what a seed does beyond it by the square.
    """
    if not spread.moved > 0:
        return spread
    share, users = float(np.abs(differences).mean()) / spread.moved, differences.shape[1]
    beyond, rest = (spread.variance - spread.rest / users) * share**2, spread.rest * share
    return SeedSpread(max(0.0, rest / users + beyond), rest, spread.freedom, share * spread.moved)


def spread_of(cells: np.ndarray) -> Spread:
    """The parts of a difference's variance (see `power.Spread`) of a sweep's cells (M, S, U), M and S at least 2."""
    settings, seeds, users = cells.shape
    flat = cells.reshape(settings * seeds, users)
    spread = two_way_spread(flat, np.repeat(np.arange(settings), seeds), np.tile(np.arange(seeds), settings))
    assert spread is not None
    by_user = cells.mean(axis=1)
    between = (by_user - by_user.mean(axis=0)).var(axis=1, ddof=1).mean() * 2 * settings / (settings - 1)
    return Spread(
        lasting=max(0.0, float(between) - spread.rest / seeds),
        passing=spread.rest,
        seeds=max(0.0, spread.variance - spread.rest / users),
        freedom=spread.freedom,
        source="measured",
    )


def paired_difference(differences: np.ndarray, spread: SeedSpread | None, known: Excess | None = None) -> Test:
    """Mean of `differences` (S, U), a setting's values less another's with the same seeds, users and seeds as random.

    With A the variance of the users' means over seeds, over U, and V, e the spread's `variance` and `rest`:
        var = A + max(0, V - e / U) / S,
    A holding users' chance, the rest what a seed does to one setting alone; t with Satterthwaite's freedom. Where these
    very differences move more from seed to seed than V says (F test at UNLIKE), their own mean square takes V's place;
    likewise where they move so much less than what V is pooled over that it leaves less freedom than they have alone.

    Args:
        known: what earlier runs say of `V - e / U`; averaged with the spread's own, as far as that goes for these two
            settings, by their standard errors (as variances are moderated in Smyth 2004), unless the two disagree
            (chi-squared at UNLIKE), or know less together than these seeds alone: two settings that change hardly any
            answer are surer than what is known of others. With it one seed and no spread will do.

    Edge cases: users with NaN anywhere are left out; neither spread nor `known`: NaN, as nothing is known of seeds.
    """
    y = differences[:, np.isfinite(differences).all(axis=0)]
    sizes = np.abs(y[y != 0])
    step = float(sizes.min(initial=1.0)) / len(y)
    return dataclasses.replace(_paired(y, spread, known), step=step)


def _paired(y: np.ndarray, spread: SeedSpread | None, known: Excess | None) -> Test:
    """The same without `step`, of users that all have values."""
    if known is None:
        return _by_mean_squares(y, spread)
    seeds, users = y.shape
    by_user = y.mean(axis=0)
    if users < 2:
        return _nothing(y, "fewer than 2 users: no test")
    mean, a = float(by_user.mean()), float(by_user.var(ddof=1)) / users
    excess, doubt = known.of(y)
    if spread is not None:
        spread = _as_of(spread, y)
        chance = spread.rest / users
        expected = chance + excess
        own = SeedSpread(float(y.mean(axis=1).var(ddof=1)), spread.rest, seeds - 1) if seeds > 1 else spread
        if any(of.variance > expected * _chi_squared(of.freedom) / of.freedom for of in (spread, own)):
            return _by_mean_squares(y, spread)
        own_doubt = max(expected, spread.variance) * math.sqrt(2 / spread.freedom)
        weight = doubt**2 / (doubt**2 + own_doubt**2)
        excess += weight * (spread.variance - chance - excess)
        doubt *= math.sqrt(1 - weight)
    variance = a + max(excess, 0.0) / seeds
    if variance == 0:
        return Test(mean, mean, mean, 0.0 if mean else 1.0, cohens_d(by_user), users, "all users and seeds alike", 0.0)
    freedom = 2 * variance**2 / (2 * a**2 / (users - 1) + (doubt / seeds) ** 2)
    if spread is not None and freedom < seeds - 1:
        return _by_mean_squares(y, spread)
    return _t_test(by_user, variance, freedom)


def _chi_squared(freedom: int) -> float:
    """The sum of so many squares that is passed with a chance of UNLIKE."""
    return float(scipy.special.chdtri(freedom, UNLIKE))


def _by_mean_squares(differences: np.ndarray, spread: SeedSpread | None) -> Test:
    """The same from the sweep's own seeds alone."""
    if spread is None:
        return _nothing(differences, "one seed: nothing is known of other seeds")
    zeros = np.zeros((1, differences.shape[1]))
    pooled = crossed_test(differences, zeros, spread, fixed=True, own_spread=False)
    own = float(differences.mean(axis=1).var(ddof=1)) if len(differences) > 1 else 0.0
    if spread.variance > 0 and len(differences) > 1:
        unlike = scipy.special.fdtrc(len(differences) - 1, spread.freedom, own / spread.variance) < UNLIKE
        if pooled.freedom < len(differences) - 1 and (alone := seed_spread([differences])) is not None:
            return crossed_test(differences, zeros, alone, fixed=True)  # they move less than what they are pooled with
        if unlike:
            return crossed_test(differences, zeros, SeedSpread(own, spread.rest, len(differences) - 1), fixed=True)
    return pooled


def _t_test(by_user: np.ndarray, variance: float, freedom: float) -> Test:
    mean, error = float(by_user.mean()), math.sqrt(variance)
    half = float(scipy.special.stdtrit(freedom, 0.975)) * error
    p = float(2 * scipy.special.stdtr(freedom, -abs(mean) / error))
    return Test(mean, mean - half, mean + half, p, cohens_d(by_user), len(by_user), "", error, freedom)


def _nothing(values: np.ndarray, note: str) -> Test:
    mean = float(np.nanmean(values)) if values.size else math.nan
    return Test(mean, math.nan, math.nan, math.nan, math.nan, values.shape[1], note)
