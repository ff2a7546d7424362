"""Exact ranking: all candidates scored, the target's place among them."""

from __future__ import annotations

import numpy as np


def rank_of_target(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(B,) 1-based rank of column `target` (B,) in `scores` (B, C), greater is better.

    A tie never favours the target, nor does NaN: it ranks behind all that don't score less. Scored NaN, it is last.
    """
    own = np.take_along_axis(scores, target[:, None], axis=1)
    rank: np.ndarray = (~(scores < own)).sum(axis=1)  # counts the target itself, once
    return rank
