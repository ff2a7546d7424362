"""The expert: the small sequential recommender whose judgement some objectives read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raypref.config.base import Frozen

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class ExpertConfig(Frozen):
    """A sequential recommender fitted on the training interactions; read by napo, eapo and the like alone."""

    recommender: Literal["sasrec"] = "sasrec"
    """Which one; sasrec: self-attention over the history's items (Kang and McAuley 2018)."""
    dimension: Count = 64
    """Width of item and sequence embeddings."""
    layers: Count = 2
    """Number of self-attention blocks."""
    heads: Count = 2
    """Number of attention heads."""
    max_length: Count = 50
    """Items of a history that are read, the latest ones."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of embeddings, attention and feed-forward layers."""
    sampled_items: Count = 4096
    """The next item competes against so many random items, drawn anew each step; against all, if there are no more."""
    learning_rate: Positive = 1e-3
    """Adam's learning rate (EAPO B.2.2)."""
    batch: Count = 256
    """Sequences of one step (EAPO B.2.2)."""
    l2: Annotated[float, Field(ge=0)] = 1e-6
    """Adam's L2 penalty on all weights (EAPO B.2.2 tries 1e-3 to 1e-7)."""
    epochs: Count = 200
    """Passes over the sequences, at most."""
    patience: Count = 10
    """Stop after so many epochs without a better ranking of the interactions kept back from fitting."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training interactions to fit on, at random (EAPO's study of expert quality: 1, 0.75, 0.5)."""
    seed: int = 0
    """Seed of weights, dropout, order, sampled items, and of what is kept back or left out."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ExpertConfig:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} is not a multiple of heads {self.heads}")
        return self
