"""The price of choosing: how likely the setting on top is the best one, and how much too kind its own score is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
DIGITS = 12  # beyond which means differ by the order of their sums, which a machine's cores decide: they tie


@dataclass(frozen=True)
class Choice:
    """What drawing users and seeds again says of a choice by the greatest mean."""

    chances: np.ndarray
    """(M,) how often each setting was on top: a posterior over settings (Efron 2012: the bootstrap as a posterior under
    a flat prior)."""
    optimism: float
    """How much greater the chosen one's mean is, on what it was chosen by, than it would be elsewhere."""


def choose(values: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0) -> Choice:
    """Draw users, and inside them seeds, with replacement (nested bootstrap); choose anew each time.

    The optimism is the mean of `m*_c - m_c`, c being the setting chosen in a draw, m* its mean there and m its mean in
    the data (Efron & Tibshirani 1993, 17.6; Tibshirani & Tibshirani 2009 for a choice among models). Settings with the
    same number of seeds get the same draws of them, as they share what a seed does.

    Args:
        values: (seeds, users) of each setting, the same users in all; users with NaN in any are left out. A setting
            that has no value at all (a recommender, of a generated answer) can't be chosen: its chance is 0.
    """
    measured = [i for i, of in enumerate(values) if np.isfinite(of).any()]
    kept = np.all([np.isfinite(values[i]).all(axis=0) for i in measured], axis=0)
    users = int(np.sum(kept))
    if not measured or not users:
        return Choice(np.zeros(len(values)), 0.0)
    cells = [values[i][:, kept] for i in measured]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(users, np.full(users, 1 / users), size=resamples) / users  # (R, U)
    draws = {n: rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in {len(of) for of in cells}}
    drawn = np.stack([((weights @ of.T) * draws[len(of)]).sum(axis=1) for of in cells], axis=1)  # (R, M)
    drawn = drawn.round(DIGITS)
    means = np.array([of.mean() for of in cells])
    top = drawn.argmax(axis=1)
    optimism = drawn[np.arange(resamples), top] - means[top]
    chances = np.zeros(len(values))
    first = drawn == drawn.max(axis=1, keepdims=True)  # settings that tie share the draw
    chances[measured] = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return Choice(chances, float(optimism.mean()))
