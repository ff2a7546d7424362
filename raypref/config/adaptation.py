"""How the stage `adapt`, and `raypref adapt`, teach a small model a data set."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raypref.config.base import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


class Adaptation(Frozen):
    """How a model is adapted to a data set."""

    vocabulary: Annotated[int, Field(ge=300)] = 8192
    """Size of the tokenizer's vocabulary, at most."""
    copy_steps: Annotated[int, Field(ge=0)] = 200
    """First steps, on random sequences written twice: what copying heads are made of."""
    steps: Annotated[int, Field(ge=1)] = 2000
    """Steps on histories and prompts, and now and then a copy."""
    batch: Annotated[int, Field(ge=1)] = 32
    """Prompts of a step."""
    histories: Share = 0.45
    """Share of these steps that read histories, half as many as prompts; copies are 3 %, prompts the rest."""
    longest: Annotated[int, Field(ge=2)] = 60
    """Items of a history that are read at once, at most."""
    easy: Share = 1.0
    """Share of the steps on prompts whose candidates are the target among random items; the others have fine-tuning's
    own. Lists that were published stay as they are."""
    curriculum: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Share of the steps over which the number of candidates grows from 2 to all."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW; cosine decay."""
    seed: int = 0
    """Seed of what is read when, of the draws and of new weights."""
