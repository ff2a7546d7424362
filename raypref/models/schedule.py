"""The learning rate's way down, as a function of the step alone, so that resuming needs no state of it."""

from __future__ import annotations

import math


def half_cosine(progress: float) -> float:
    """Fall from 1 to 0 as `progress` goes from 0 to 1: `(1 + cos(pi progress)) / 2` (Loshchilov and Hutter, eq. 5)."""
    return 0.5 * (1 + math.cos(math.pi * progress))
