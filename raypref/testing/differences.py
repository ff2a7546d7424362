"""Finite differences of a loss by its log-probs, and what a loss that stops gradients is differentiated with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from raypref.objectives import PreferenceBatch

STEP = 1e-5
"""Nats."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Log-probs (B,) and (B, K) to a scalar."""


def finite_differences(loss: Loss, batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    """Differentiate by central differences, with respect to every entry of the log-probs (B,) and (B, K).

    Args:
        loss: Scalar; in float64, or rounding is all there is to see.
        batch: Where to differentiate.
    """
    found = []
    for which in (0, 1):
        values = [batch.policy_logps_pos.detach().clone(), batch.policy_logps_neg.detach().clone()]
        flat = values[which].view(-1)
        slopes = torch.empty_like(flat)
        for i in range(len(flat)):
            here = flat[i].item()
            flat[i] = here + STEP
            above = loss(values[0], values[1]).item()
            flat[i] = here - STEP
            slopes[i] = (above - loss(values[0], values[1]).item()) / (2 * STEP)
            flat[i] = here
        found.append(slopes.view_as(values[which]))
    return found[0], found[1]


def agree(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> bool:
    """Tell whether two gradients are the same up to what finite differences can see."""
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(ours, theirs))


def held_fixed(loss: Loss, batch: PreferenceBatch) -> Loss:
    """Make the loss whose detached values stay what they are at `batch`, wherever it is evaluated.

    Its derivative is what autograd gives for the loss. A value is told by the place of its `detach` in the order of
    calls, so the loss must make the same calls each time; `torch.no_grad` is not seen.
    """
    with _Detached() as record:
        loss(batch.policy_logps_pos, batch.policy_logps_neg)

    def fixed(pos: Tensor, neg: Tensor) -> Tensor:
        with _Detached(record.given):
            return loss(pos, neg)

    return fixed


class _Detached(TorchFunctionMode):
    """Records what `detach` gives, call by call; or gives what was recorded."""

    def __init__(self, recorded: list[Tensor] | None = None) -> None:
        super().__init__()
        self.given: list[Tensor] = []
        self.recorded = None if recorded is None else iter(recorded)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (Tensor.detach, torch.detach):
            return result
        self.given.append(result.clone())
        return result if self.recorded is None else next(self.recorded, result)
