"""Batches and variants that the tests of this folder share. Imported by spawned workers too, so no fixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from raypref.objectives import OBJECTIVES, ObjectiveOutput, PreferenceBatch

VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in OBJECTIVES},
    "dpo+ns": {"name": "dpo", "share_negatives": True},
    "dpo+margin": {"name": "dpo", "margin": "ratio"},
    "ipo per token": {"name": "ipo", "length_normalised": True},
    "rosepo by expert": {"name": "rosepo", "smoothing": "expert"},
    "dmpo+ns": {"name": "dmpo", "share_negatives": True},
    "sdpo+ns": {"name": "sdpo", "share_negatives": True, "rho": 0.5},
    "sdpo+ns+margin": {"name": "sdpo", "share_negatives": True, "margin": "ratio"},
    "recpo log_ratio": {"name": "recpo", "margin": "log_ratio"},
    "recpo log_diff": {"name": "recpo", "margin": "log_diff"},
    "recpo as printed": {"name": "recpo", "margin_sign": "as_printed"},
    "recpo summed": {"name": "recpo", "margin_scope": "summed"},
    "recpo+expert": {"name": "recpo", "adaptive_beta": "expert"},
    "napo per token": {"name": "napo", "length_normalised": True},
    "napo without ns": {"name": "napo", "share_negatives": False},
    "alpha-dpo sums": {"name": "alpha-dpo", "length_normalised": False},
    "beta-dpo unfiltered": {"name": "beta-dpo", "filter_share": 0.0},
    "beta-dpo+margin": {"name": "beta-dpo", "margin": "log_ratio"},
}


def make(name: str, **values: Any) -> tuple[Any, Any]:
    function, cls = OBJECTIVES[name]
    return function, cls(**values)


def apply(batch: PreferenceBatch, state: dict[str, Tensor] | None = None, /, **values: Any) -> ObjectiveOutput:
    """The objective `values["name"]` with these parameters, on a batch."""
    function, params = make(**values)
    return function(batch, params, {} if state is None else state)


def random_batch(b: int = 6, k: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreferenceBatch:
    """All columns filled; some ratings and latencies are NaN, as random negatives have."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * scale + shift).to(dtype)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw)

    rating_neg, latency_neg = integers(1, 6, b, k).to(dtype), integers(1, 12, b, k).to(dtype)
    random_negative = torch.rand((b, k), generator=draw) < 0.4
    scores = normal(b, 9)
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
    return replace(batch, policy_logps_pos=pos, policy_logps_neg=neg)


def rows(batch: PreferenceBatch, index: Any) -> PreferenceBatch:
    """Some examples of a batch, as leaves of their own."""
    picked = {name: value[index] for name, value in vars(batch).items() if isinstance(value, Tensor)}
    for name in ("policy_logps_pos", "policy_logps_neg"):
        picked[name] = picked[name].detach().clone().requires_grad_()
    return PreferenceBatch(**picked, columns={name: value[index] for name, value in batch.columns.items()})


def gradients(batch: PreferenceBatch, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean loss, with respect to the log-probs of preferred (B,) and dispreferred (B, K) titles."""
    pos, neg = torch.autograd.grad(losses.mean(), (batch.policy_logps_pos, batch.policy_logps_neg))
    return pos, neg
