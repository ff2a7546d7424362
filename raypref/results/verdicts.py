"""Better, worse, equivalent or undecided: what a test says of a difference, errors counted over all comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from raypref.results.statistics import Test, hochberg, holm

BETTER, WORSE, EQUIVALENT, UNDECIDED, UNTESTED = "better", "worse", "equivalent", "undecided", "not tested"
LEVEL = 0.05
MARGIN = 0.01
"""A difference of HR@1 that nobody would act on, unless the user says otherwise (`--equivalent`)."""


def equivalence_p(test: Test, margin: float) -> float:
    """p of two one-sided tests (Schuirmann 1987) of "the true difference is `margin` or more, one way or the other".

    `max(P(T >= (d + margin) / se), P(T <= (d - margin) / se))`; small: the difference is within the margin. NaN where
    the test has no standard error.

    Were the difference the margin, some users' answers would differ, by `step` at least each, so that its variance is
    `margin step / n` or more: few users that happen to agree prove nothing (as a score test has it: Tango 1998).
    """
    if not math.isfinite(test.error):
        return math.nan
    error = math.sqrt(max(test.error**2, margin * test.step / test.n)) if test.n else test.error
    if error == 0:
        return 0.0 if abs(test.difference) < margin else 1.0
    far = (margin - abs(test.difference)) / error
    return float(scipy.special.ndtr(-far) if math.isinf(test.freedom) else scipy.special.stdtr(test.freedom, -far))


def verdicts(tests: Sequence[Test], margin: float = MARGIN, level: float = LEVEL) -> list[str]:
    """A verdict for each comparison, of the first setting against the second.

    better, worse: the difference is not 0, by Holm's correction over `tests`; the chance of any such verdict of equal
    settings, or of the wrong sign, is at most `level`. equivalent: it is within `margin`, by Hochberg's correction of
    the two one-sided tests; the chance of any such verdict where the true difference is `margin` or more is at most
    `level` again. undecided: neither can be said. A difference that is both not 0 and within the margin is `better` or
    `worse`.
    """
    different = holm([test.p for test in tests])
    alike = hochberg([equivalence_p(test, margin) for test in tests])
    return [_verdict(test, p, q, level) for test, p, q in zip(tests, different, alike)]


def _verdict(test: Test, different: float, alike: float, level: float) -> str:
    if np.isnan(different) and np.isnan(alike):
        return UNTESTED
    if different <= level:
        return BETTER if test.difference > 0 else WORSE
    return EQUIVALENT if alike <= level else UNDECIDED
