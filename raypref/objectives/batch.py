"""What an objective sees of a batch (log-probabilities and columns, never a model) and what it gives back.

Shape letters: B examples, K dispreferred titles of each, C candidates of a prompt, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from raypref.config.objective_switches import COLUMNS
from raypref.errors import UserError

HALF = (torch.float16, torch.bfloat16)


def widen(x: Tensor) -> Tensor:
    """`x` in at least float32: half types hold a log-ratio of 100 nats to half a nat only; float64 stays as it is."""
    return x.float() if x.dtype in HALF else x


@dataclass(frozen=True)
class PreferenceBatch:
    """A batch of preference examples as an objective reads it.

    Log-probabilities are sums over a title's tokens and its end token, in nats.
    """

    policy_logps_pos: Tensor
    """(B,) log-prob of the preferred title under the policy; carries the gradient."""
    policy_logps_neg: Tensor
    """(B, K) log-probs of the dispreferred titles under the policy; carry the gradient."""
    tokens_pos: Tensor
    """(B,) number of scored tokens of the preferred title, end token included."""
    tokens_neg: Tensor
    """(B, K) the same of the dispreferred titles."""
    ref_logps_pos: Tensor | None = None
    """(B,) log-prob of the preferred title under the frozen reference (the SFT model)."""
    ref_logps_neg: Tensor | None = None
    """(B, K) the same of the dispreferred titles."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """Columns of the example table: `(B,)` for `*_pos`, `(B, K)` for `*_neg`, `(B, C-1)` for `*_all_neg` (all
    dispreferred candidates of the prompt, NaN where a prompt has fewer), `(B, D)` for embeddings."""

    def __post_init__(self) -> None:
        shape = tuple(self.policy_logps_neg.shape)
        if len(shape) != 2 or shape[1] == 0:
            raise UserError(
                f"a preference batch needs K >= 1 dispreferred titles for each preferred one, got shape {shape}",
                where="policy_logps_neg (B, K)",
                hint="raise the number of negatives",
            )
        if tuple(self.policy_logps_pos.shape) != shape[:1]:
            raise UserError(
                f"{tuple(self.policy_logps_pos.shape)} preferred titles against {shape} dispreferred ones",
                where="policy_logps_pos (B,), policy_logps_neg (B, K)",
            )

    def column(self, name: str) -> Tensor:
        """The column `name`, in the dtype in which the log-probs are reduced."""
        if name not in self.columns:
            stage = COLUMNS[name]
            raise UserError(
                f"the objective reads the column '{name}', which the example table lacks",
                where="present: " + (", ".join(sorted(self.columns)) or "no columns"),
                hint=f"the stage '{stage}' fills it: run that stage, or choose an objective that does not need it",
            )
        return self.columns[name].to(widen(self.policy_logps_pos).dtype)


class ObjectiveOutput(NamedTuple):
    """What a loss gives back."""

    losses: Tensor
    """(B,) loss of each example, in at least float32; the batch's loss is their mean."""
    metrics: dict[str, Tensor]
    """Detached per-example values (B,), to be averaged, or turned into quantiles, by whoever logs them."""


State = dict[str, Tensor]
"""Small tensors that an objective carries from step to step, checkpointed with the model; empty at the start."""


class Objective(Protocol):
    """A loss: reads the batch and its parameters, writes nothing but `state`.

    `params.scope == "batch"` asks for the global optimizer batch (see `gather.py`), "example" for any part of it.
    Validation passes a copy of the state, so that looking does not change it.
    """

    def __call__(self, batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput: ...
