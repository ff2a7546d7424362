"""Seeds only where they are needed: verdicts after each round of seeds, valid whenever one stops."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import scipy

from raypref.results.paired import ASSUMED, Excess, paired_difference, two_way_spread
from raypref.results.statistics import Test, holm
from raypref.results.verdicts import BETTER, EQUIVALENT, LEVEL, UNDECIDED, WORSE, equivalence_p

POCOCK = (2.576, 2.772, 2.873, 2.939, 2.986, 3.023, 3.053, 3.078, 3.099, 3.117)
"""Bounds of |z| at each of 1 to 10 looks that are passed at any of them with a chance of 0.01 (Pocock 1977; Jennison &
Turnbull 2000, table 2.1)."""
HOPELESS = 0.6
"""A comparison that further seeds will decide with a lesser chance gets none; so most trials go where they decide."""


def nominal(level: float, looks: int) -> float:
    """The level at which each of `looks` looks may be tested, so that all together err with a chance of `level`.

    By Pocock's bounds for 0.01, whose share of the level at each look is a little less than that of greater levels (so
    for Holm's steps up to 0.05 it is the careful one); more than 10 looks share the level evenly (Bonferroni). It
    holds for looks at equal steps of information; seeds add less than that, as users stay the same, and looks that are
    more alike err less. One may stop after any look.
    """
    if looks > len(POCOCK):
        return level / looks
    return level * 2 * NormalDist().cdf(-POCOCK[looks - 1]) / 0.01


@dataclass(frozen=True)
class Decision:
    """What is said of one comparison, the setting less the reference, when it was last looked at."""

    verdict: str
    look: int
    """The look that brought the verdict, or the last one."""
    test: Test
    hopeless: bool = False
    """More seeds, up to the most allowed, would hardly decide it."""

    @property
    def open(self) -> bool:
        """Whether more seeds are worth their cost."""
        return self.verdict == UNDECIDED and not self.hopeless


def look(
    values: Sequence[np.ndarray],
    reference: np.ndarray,
    before: Sequence[Decision],
    number: int,
    most_seeds: int,
    margin: float,
    known: Excess = ASSUMED,
    level: float = LEVEL,
    given: Collection[int] = (),
) -> list[Decision]:
    """Look `number` (1, 2, ...) at every comparison that is still open; what was decided before stays.

    Holm's step at each look: a hypothesis is tested at the look's nominal level divided by how many of its family were
    not rejected before (Maurer & Bretz 2013). So over all looks the chance of any false better or worse is at most
    `level`, and that of any false equivalent too.

    Args:
        values: (seeds, users) of each setting, seeds 0, 1, ... of the same users; a setting may have fewer than others.
        reference: the same of the setting that they are compared with.
        before: the decisions of the last look; at the first one empty.
        most_seeds: seeds that a setting may get, and so the most looks that there may be.
        margin: of equivalence, and the difference that is to be decided.
        known: what earlier runs say of the seeds' share of a difference.
        given: places in [reference, *values] of models that no seed changes; such a one has one row, which stands for
            every seed.
    """
    if number > 1 and len(before) != len(values):
        raise ValueError(f"{len(before)} decisions of {len(values)} comparisons")
    seeded = [of for place, of in enumerate([reference, *values]) if place not in given]
    most = max(len(of) for of in [reference, *values])
    cells = [np.repeat(of, most, axis=0) if place in given else of for place, of in enumerate([reference, *values])]
    reference, values = cells[0], cells[1:]
    spread = None
    if seeded:
        methods = np.repeat(np.arange(len(seeded)), [len(of) for of in seeded])
        spread = two_way_spread(np.concatenate(seeded), methods, np.concatenate([np.arange(len(of)) for of in seeded]))
    tested = [i for i in range(len(values)) if not before or before[i].open]
    tests = {}
    for i in tested:
        both = min(len(values[i]), len(reference))
        tests[i] = paired_difference(values[i][:both] - reference[:both], spread, known)
    share = nominal(level, most_seeds)
    words = [decision.verdict for decision in before] or [UNDECIDED] * len(values)
    different = _rejected(
        {i: tests[i].p for i in tested}, sum(w not in (BETTER, WORSE) for w in words) - len(tested), share
    )
    alike = _rejected(
        {i: equivalence_p(tests[i], margin) for i in tested}, sum(w != EQUIVALENT for w in words) - len(tested), share
    )
    found = list(before) or [Decision(UNDECIDED, number, tests[i]) for i in tested]
    for i in tested:
        verdict = UNDECIDED
        if i in different:
            verdict = BETTER if tests[i].difference > 0 else WORSE
        elif i in alike:
            verdict = EQUIVALENT
        both = min(len(values[i]), len(reference))
        chance = chance_to_decide(tests[i], both, most_seeds, margin, len(values), level, values[i], reference)
        found[i] = Decision(verdict, number, tests[i], hopeless=chance < HOPELESS)
    return found


def _rejected(p: dict[int, float], others: int, level: float) -> set[int]:
    """Holm's step-down among those tested and `others` that are not, and not rejected either."""
    adjusted = holm([*p.values(), *[1.0] * others])[: len(p)]
    return {i for i, value in zip(p, adjusted) if value <= level}


def chance_to_decide(
    test: Test,
    seeds: int,
    most_seeds: int,
    margin: float,
    comparisons: int,
    level: float,
    values: np.ndarray,
    reference: np.ndarray,
) -> float:
    """How likely the comparison will be decided with `most_seeds` seeds, by what is known now (predictive power:
    Spiegelhalter, Freedman & Blackburn 1986); it stops trials and enters no verdict.

    The part of the error that more seeds lessen is all of it with one seed, else what the seeds' own differences show.
    """
    if not math.isfinite(test.error) or seeds >= most_seeds:
        return 0.0
    difference = values[:seeds] - reference[:seeds]
    users = difference.shape[1]
    lasting = 0.0
    if seeds > 1:
        lasting = max(0.0, difference.mean(axis=0).var(ddof=1) - difference.var(axis=0, ddof=1).mean() / seeds) / users
    now = test.error**2
    later = min(now, lasting + max(0.0, now - lasting) * seeds / most_seeds)
    quantile = float(scipy.special.ndtri(1 - nominal(level, most_seeds) / comparisons / 2))
    moves = math.sqrt(max(now - later, 1e-16))
    bound, inside = quantile * math.sqrt(later), margin - quantile * math.sqrt(later)

    def within(half: float) -> float:
        if half <= 0:
            return 0.0
        d = test.difference
        return float(scipy.special.ndtr((half - d) / moves) - scipy.special.ndtr((-half - d) / moves))

    return 1 - within(bound) + min(within(inside), within(bound))
