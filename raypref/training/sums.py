"""Sums over a global batch that lies in parts on several workers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from raypref.objectives import ObjectiveOutput


def all_sum(value: Tensor) -> Tensor:
    """Sum over workers; the value itself where there is one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value)
    return value


def all_most(value: Tensor) -> Tensor:
    """Greatest over workers; the value itself where there is one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


class MetricSums:
    """Weighted loss and per-example metrics, summed over micro-batches and then over workers."""

    def __init__(self, reduce: bool = True) -> None:
        """`reduce=False`: every worker adds the whole batch."""
        self.reduce = reduce
        self._sums: dict[str, Tensor] = {}

    def add(self, output: ObjectiveOutput, weights: Tensor) -> None:
        """`weights` (B,): how much each example's loss counts; metrics count alike. Weight 0 leaves an example out."""
        present = (weights > 0).float()
        parts = {"loss": (output.losses.detach() * weights).sum(), "_weight": weights.sum(), "_examples": present.sum()}
        parts |= {name: (value * present).sum() for name, value in output.metrics.items()}
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value

    def means(self) -> dict[str, float]:
        """Means over everything added, on all workers alike (collective). The host waits for the device here."""
        sums = torch.stack([value.double() for value in self._sums.values()])
        totals = dict(zip(self._sums, (all_sum(sums) if self.reduce else sums).tolist()))
        weight, examples = totals.pop("_weight"), totals.pop("_examples")
        return {name: total / (weight if name == "loss" else examples) for name, total in totals.items()}
