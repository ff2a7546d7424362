"""Seeds only where they are needed: verdicts after each round of seeds, valid whenever one stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from raypref.results.paired import ASSUMED, Excess, paired_difference, two_way_spread
from raypref.results.statistics import Test, hochberg, holm
from raypref.results.verdicts import BETTER, EQUIVALENT, LEVEL, UNDECIDED, WORSE, equivalence_p

SHARES = (1.0, 0.62, 0.55, 0.5, 0.47, 0.44, 0.42, 0.4, 0.38, 0.36)
"""Of the level, what each of 1 to 10 looks may test at, for all looks together to err no more often than the level.

Constant over looks, as Pocock's (1977), and less strict than his (0.28 at five looks) for two reasons: the looks see
the same users, so that they resemble each other more than his do (a fifth of what varies over users with one seed lasts
over seeds, as in the sweeps of docs/results.md), and a comparison that is equivalent or hopeless is never tested again.
By simulation of four comparisons that share their default, over margins (tests/results/test_verdicts.py). Where nothing
lasts, errors come to 1.3 times the level.
"""
HOPELESS = 0.4
"""A comparison that further seeds will decide with a lesser chance gets none; so most trials go where they decide."""

CHANGED = 0.05
"""Where a setting changes more of the answers than this, one seed is no ground for a verdict: other seeds may change
them quite otherwise (as λ = 5 of the default sweep does), and what is assumed of them was found with fewer."""


def nominal(level: float, looks: int) -> float:
    """The level at which each of `looks` looks may be tested, so that all together err with a chance of `level`.

    More than 10 looks share a little more than a third of it. One may stop after any look.
    """
    return level * (SHARES[looks - 1] if looks <= len(SHARES) else SHARES[-1] * len(SHARES) / looks)


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

    Holm's step at each look (Hochberg's for equivalence): a hypothesis is tested at the look's nominal level divided
    by how many of its family were not rejected before (Maurer & Bretz 2013). So over all looks the chance of any
    false better or worse is at most `level`, and that of any false equivalent too.

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
    tests, waiting = {}, set()
    for i in tested:
        both = min(len(values[i]), len(reference))
        difference = values[i][:both] - reference[:both]
        tests[i] = paired_difference(difference, spread, known)
        if both < 2 and not {0, i + 1} <= set(given) and np.abs(difference).mean() > CHANGED:
            waiting.add(i)
    share = nominal(level, most_seeds)
    words = [decision.verdict for decision in before] or [UNDECIDED] * len(values)
    different = _rejected(
        holm,
        {i: 1.0 if i in waiting else tests[i].p for i in tested},
        sum(w not in (BETTER, WORSE) for w in words) - len(tested),
        share,
    )
    p = {i: 1.0 if i in waiting else equivalence_p(tests[i], margin) for i in tested}
    alike = _rejected(hochberg, p, sum(w != EQUIVALENT for w in words) - len(tested), share)
    found = list(before) or [Decision(UNDECIDED, number, tests[i]) for i in tested]
    for i in tested:
        verdict = UNDECIDED
        if i in different:
            verdict = BETTER if tests[i].difference > 0 else WORSE
        elif i in alike:
            verdict = EQUIVALENT
        both = min(len(values[i]), len(reference))
        chance = _chance(tests[i], both, most_seeds, margin, share / len(values), values[i], reference)
        hopeless = chance < HOPELESS and (i not in waiting or number >= most_seeds)
        found[i] = Decision(verdict, number, tests[i], hopeless)
    return found


def _rejected(correct: Callable[[list[float]], np.ndarray], p: dict[int, float], others: int, level: float) -> set[int]:
    """Those rejected, corrected for those tested and for `others` that are not, and not rejected either."""
    adjusted = correct([*p.values(), *[1.0] * others])[: len(p)]
    return {i for i, value in zip(p, adjusted) if value <= level}


def _chance(
    test: Test, seeds: int, most_seeds: int, margin: float, share: float, values: np.ndarray, reference: np.ndarray
) -> float:
    """The chance that the comparison will be decided with `most_seeds` seeds, from how it stands with `seeds`.

    The part of the error that more seeds lessen is all of it with one seed, else what the seeds' own differences show.
    """
    if not math.isfinite(test.error) or seeds >= most_seeds:
        return 0.0
    difference = values[:seeds] - reference[:seeds]
    lasting = 0.0
    if seeds > 1:
        passing = difference.var(axis=0, ddof=1).mean()
        lasting = max(0.0, difference.mean(axis=0).var(ddof=1) - passing / seeds) / difference.shape[1]
    now = test.error**2
    later = min(now, lasting + max(0.0, now - lasting) * seeds / most_seeds)
    return float(chance_to_decide(np.array(test.difference), now, later, margin, share))


def chance_to_decide(difference: np.ndarray, now: float, later: float, margin: float, level: float) -> np.ndarray:
    """How likely a verdict will come at the last look, by what is known now (predictive power: Spiegelhalter, Freedman
    & Blackburn 1986); it stops trials and enters no verdict.

    Args:
        difference: as it stands, of any shape.
        now: the variance of its error.
        later: what that will be at the last look.
        level: the nominal one of the last look, divided by the comparisons.
    """
    moves = math.sqrt(max(now - later, 1e-16))
    bound = float(scipy.special.ndtri(1 - level / 2)) * math.sqrt(later)
    inside = margin - float(scipy.special.ndtri(1 - level)) * math.sqrt(later)

    def within(half: float) -> np.ndarray:
        if half <= 0:
            return np.zeros_like(difference)
        return scipy.special.ndtr((half - difference) / moves) - scipy.special.ndtr((-half - difference) / moves)

    return 1 - within(bound) + np.minimum(within(inside), within(bound))
