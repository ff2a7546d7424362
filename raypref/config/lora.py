"""Low-rank adapters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raypref.config.base import Frozen

Count = Annotated[int, Field(ge=1)]


class LoraConfig(Frozen):
    """Low-rank adapters (Hu et al., 2022) by peft."""

    rank: Count = 8
    """Rank of the update matrices."""
    alpha: Count = 16
    """Scale: an update counts alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout before the update matrices, in training."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Projections that get an adapter; all-linear: all but the language-model head."""
