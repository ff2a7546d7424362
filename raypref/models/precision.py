"""In which precision a model computes log-probs: one rule for training and for the reference it is compared with."""

from __future__ import annotations

import torch

from raypref.config.training import ResourceConfig


def autocast(resources: ResourceConfig, device: torch.device) -> torch.autocast:
    """The context to score titles in, as `resources.precision` says; disabled, it is float32.

    Where a policy and its reference differ in this alone, the first step of DPO is not ln 2.
    """
    use_bf16 = {
        "auto": device.type == "cuda" and torch.cuda.is_bf16_supported(),
        "bfloat16": True,
        "float32": False,
    }[resources.precision]
    return torch.autocast(device.type, torch.bfloat16, enabled=use_bf16)
