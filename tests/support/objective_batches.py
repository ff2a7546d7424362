"""Batches for objectives, and the variants of each objective that are tested."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from raypref.objectives import OBJECTIVES, ObjectiveOutput, PreferenceBatch
from raypref.testing.batches import gradients, random_batch, rows, with_logps

__all__ = ["VARIANTS", "apply", "gradients", "make", "random_batch", "rows", "with_logps"]

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
    "dynamicpo sdpo": {"name": "dynamicpo", "base": "sdpo"},
    "dynamicpo mppo": {"name": "dynamicpo", "base": "mppo"},
    "list-pg all": {"name": "list-pg", "over": "all"},
    "list-pg kl": {"name": "list-pg", "beta_kl": 0.1, "temperature": 2.0},
    "list-pg all kl": {"name": "list-pg", "over": "all", "beta_kl": 0.1},
    "list-pg standardised": {"name": "list-pg", "advantage": "standardised"},
    "list-pg utility": {"name": "list-pg", "reward": "utility"},
    "list-pg expert": {"name": "list-pg", "reward": "expert"},
    "list-pg expert-rank": {"name": "list-pg", "reward": "expert-rank"},
    "beta-dpo+margin": {"name": "beta-dpo", "margin": "log_ratio"},
}


def make(name: str, **values: Any) -> tuple[Any, Any]:
    function, cls = OBJECTIVES[name]
    return function, cls(**values)


def apply(batch: PreferenceBatch, state: dict[str, Tensor] | None = None, /, **values: Any) -> ObjectiveOutput:
    """The objective `values["name"]` with these parameters, on a batch."""
    function, params = make(**values)
    return function(batch, params, {} if state is None else state)
