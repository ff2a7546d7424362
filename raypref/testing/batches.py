"""Batches of preferences with every column filled, and what is done to them in checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from raypref.objectives import PreferenceBatch

CANDIDATES = 9
"""Dispreferred candidates of each prompt, from which its K negatives are drawn."""


def random_batch(b: int = 6, k: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreferenceBatch:
    """Draw a batch with all columns; some ratings and latencies are NaN, as random negatives have.

    Args:
        b: Number of examples B.
        k: Number K of negatives of each, at most 9.
        seed: Seed of the draw.
        dtype: Of log-probs and columns.

    Returns:
        A batch whose policy log-probs are leaves that carry a gradient.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * scale + shift).to(dtype)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw)

    rating_neg, latency_neg = integers(1, 6, b, k).to(dtype), integers(1, 12, b, k).to(dtype)
    random_negative = torch.rand((b, k), generator=draw) < 0.4
    scores = normal(b, CANDIDATES)
    return PreferenceBatch(
        policy_logps_pos=normal(b, scale=2, shift=-8).requires_grad_(),
        policy_logps_neg=normal(b, k, scale=2, shift=-9).requires_grad_(),
        ref_logps_pos=normal(b, scale=2, shift=-8),
        ref_logps_neg=normal(b, k, scale=2, shift=-8),
        tokens_pos=integers(1, 9, b),
        tokens_neg=integers(1, 9, b, k),
        columns={
            "rating_pos": integers(4, 6, b).to(dtype),
            "rating_neg": rating_neg.masked_fill(random_negative, torch.nan),
            "latency_pos": integers(1, 3, b).to(dtype),
            "latency_neg": latency_neg.masked_fill(random_negative, torch.nan),
            "expert_score_pos": normal(b),
            "expert_score_neg": scores[:, :k].clone(),
            "expert_score_all_neg": scores,
            "expert_confidence_neg": normal(b, k).sigmoid(),
            "sequence_embedding": normal(b, 5),
        },
    )


def with_logps(batch: PreferenceBatch, pos: Tensor, neg: Tensor) -> PreferenceBatch:
    """Give a batch other policy log-probs, (B,) and (B, K)."""
    return replace(batch, policy_logps_pos=pos, policy_logps_neg=neg)


def rows(batch: PreferenceBatch, index: Any) -> PreferenceBatch:
    """Take some examples of a batch, or all in another order, as leaves of their own."""
    return changed(batch, lambda name, value: value[index])


def changed(batch: PreferenceBatch, change: Callable[[str, Tensor], Tensor]) -> PreferenceBatch:
    """Change each tensor of a batch by its name; policy log-probs become leaves that carry a gradient."""
    tensors = {name: change(name, value.detach()) for name, value in vars(batch).items() if isinstance(value, Tensor)}
    for name in ("policy_logps_pos", "policy_logps_neg"):
        tensors[name] = tensors[name].clone().requires_grad_()
    return replace(batch, **tensors, columns={name: change(name, value) for name, value in batch.columns.items()})


def gradients(batch: PreferenceBatch, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate the mean loss by the log-probs of preferred (B,) and dispreferred (B, K) titles."""
    leaves = batch.policy_logps_pos, batch.policy_logps_neg
    pos, neg = torch.autograd.grad(losses.mean(), leaves, allow_unused=True, materialize_grads=True)
    return pos, neg
