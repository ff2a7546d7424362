"""DynamicPO's boundary (arXiv 2605.00327): which negatives are near it, and a beta of each from how near."""

from __future__ import annotations

import torch
from torch import Tensor

SLOPE, SHIFT = 0.5, 2.0
"""beta_k lies between `1 - SLOPE` and `1 + SLOPE` times beta; SHIFT is what the published trainer subtracts."""
FLOOR = 1e-8
"""Least sum of both gaps, in nats: where they vanish, beta_k is its least value."""


def boundary_negatives(logps_pos: Tensor, logps_neg: Tensor) -> Tensor:
    """Choose the negatives that the policy finds at least as likely as the preferred title, (B, K) booleans.

    Where there is none, those of the likeliest of three clusters of their log-probs (`top_cluster`).

    Args:
        logps_pos: (B,) log-probs of the preferred titles, nats.
        logps_neg: (B, K) log-probs of the dispreferred ones.
    """
    pos, neg = logps_pos.detach(), logps_neg.detach()
    above = neg >= pos[:, None]
    top = neg >= top_cluster(neg)[:, None]
    return torch.where(above.any(dim=1, keepdim=True), above, top)


def top_cluster(values: Tensor) -> Tensor:
    """Find the least value (B,) of the highest of three clusters of each row of `values` (B, K).

    The clusters are those of least squared distance to their means. On a line they are intervals, so all divisions of
    the sorted row are tried: the optimum that K-means, as the published code has it, approaches from a random start.
    Fewer than three values make no three clusters: the greatest stands alone.
    """
    count = values.shape[1]
    if count < 3:
        return values.amax(dim=1)
    ordered = values.double().sort(dim=1).values
    centred = ordered - ordered.mean(dim=1, keepdim=True)
    sums, squares = (
        torch.nn.functional.pad(each.cumsum(dim=1), (1, 0)) for each in (centred, centred.square())
    )  # (B, K + 1): of the first i values

    def scatter(first: Tensor, end: Tensor) -> Tensor:
        total = sums[:, end] - sums[:, first]
        return squares[:, end] - squares[:, first] - total.square() / (end - first)

    second, third = torch.combinations(torch.arange(1, count, device=values.device)).unbind(dim=1)
    start, end = torch.zeros_like(second), torch.full_like(second, count)
    cost = scatter(start, second) + scatter(second, third) + scatter(third, end)
    return ordered.gather(1, third[cost.argmin(dim=1)][:, None])[:, 0].to(values.dtype)


def boundary_betas(logps_pos: Tensor, logps_neg: Tensor, near: Tensor, beta: float) -> Tensor:
    """`beta (1 + 0.5 tanh((g1_k - g2_k - 2) / (|g1_k| + |g2_k|)))`, (B, K), never differentiated.

    `g1_k = lp - ld_k` is how far the preferred title is ahead, `g2_k = ld_k - mean_D ld` how far title k is ahead of
    the negatives that are not `near`, or of all of them where all are near.
    """
    pos, neg = logps_pos.detach(), logps_neg.detach()
    others = torch.where(near.all(dim=1, keepdim=True), near, ~near)
    mean = (neg * others).sum(dim=1) / others.sum(dim=1)
    ahead, stands_out = pos[:, None] - neg, neg - mean[:, None]
    spread = (ahead.abs() + stands_out.abs()).clamp_min(FLOOR)
    return beta * (1 + SLOPE * torch.tanh((ahead - stands_out - SHIFT) / spread))
