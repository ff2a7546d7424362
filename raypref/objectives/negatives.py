"""Negatives that the policy chooses, anew in each step, from the scores of the pass that trains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from raypref.objectives.batch import PreferenceBatch, widen

DRAWN = "draw_neg"
"""Column (B, N) of the batch: a random number of each candidate in [0, 1), by seed, epoch and example; from 1 on where
it may be taken only for want of others."""


def choose_negatives(batch: PreferenceBatch, count: int, by: str, share: float) -> PreferenceBatch:
    """Keep `count` of each example's N negatives: a share of them by the policy, the others by lot.

    All N are scored; only those that are kept have a gradient.

    Args:
        batch: (B, N) candidates as negatives, and the column `draw_neg`.
        count: K, at most N.
        by: A name of `WAYS`.
        share: Of the K, the share that the policy chooses, rounded; the rest are those of the least random number.
    """
    lots = batch.columns[DRAWN]
    pos, neg = widen(batch.policy_logps_pos.detach()), widen(batch.policy_logps_neg.detach())
    last = lots >= 1
    liking = WAYS[by](pos, neg, lots.double() % 1).masked_fill(last, -torch.inf)
    policys = round(share * count)
    # Equal scores by lot: a stable sort of what was sorted by lot first.
    by_lot = lots.argsort(dim=1, stable=True)
    best = by_lot.gather(1, liking.gather(1, by_lot).argsort(dim=1, descending=True, stable=True))[:, :policys]
    rest = lots.scatter(1, best, torch.inf).argsort(dim=1, stable=True)[:, : count - policys]
    return _taken(batch, torch.cat((best, rest), dim=1))


def _taken(batch: PreferenceBatch, chosen: Tensor) -> PreferenceBatch:
    """The batch with the negatives `chosen` (B, K) alone; columns of all candidates stay as they are."""

    def take(name: str, value: Tensor) -> Tensor:
        return value.gather(1, chosen) if name.endswith("_neg") and not name.endswith("_all_neg") else value

    tensors = {name: take(name, value) for name, value in vars(batch).items() if isinstance(value, Tensor)}
    columns = {name: take(name, value) for name, value in batch.columns.items() if name != DRAWN}
    return replace(batch, **tensors, columns=columns)


def _hard(pos: Tensor, neg: Tensor, lots: Tensor) -> Tensor:
    """The likeliest under the policy."""
    return neg.double()


def _self_play(pos: Tensor, neg: Tensor, lots: Tensor) -> Tensor:
    """Drawn without replacement from the policy's own distribution over the list, the target left out (SPRec).

    By Gumbel's trick: the largest of log-prob + Gumbel noise are such a draw.
    """
    return neg.double() - torch.log(-torch.log(lots.clamp(1e-12, 1 - 1e-12)))


def _borderline(pos: Tensor, neg: Tensor, lots: Tensor) -> Tensor:
    """The nearest to the preferred title's log-prob, above or below (DynamicPO's boundary, as a way of choosing K)."""
    return -(neg - pos[:, None]).abs().double()


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "hard": _hard,
    "self-play": _self_play,
    "borderline": _borderline,
}
"""By name: how much the policy wants each negative (B, N), from log-probs (B,) and (B, N) and random numbers (B, N)."""
