"""Recommenders that know items by number: baselines, and the expert whose judgement some objectives read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from raypref.config.base import Frozen

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Penalty = Annotated[float, Field(ge=0)]
PENALTIES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


class Random(Frozen):
    """Candidates in random order: the floor that chance gives."""

    recommender: Literal["random"] = "random"
    """A random order of each list."""
    seed: int = 0
    """Seed of the order."""


class Popularity(Frozen):
    """Candidates by how often training users met them: the floor that fame gives."""

    recommender: Literal["popularity"] = "popularity"
    """The item's count in the training interactions."""


class FittedConfig(Frozen):
    """What all fitted recommenders share: embeddings compared by inner product, next-item cross-entropy, Adam."""

    dimension: Count = 64
    """Width of item and sequence embeddings."""
    max_length: Count = 50
    """Items of a history that are read, the latest ones."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of embeddings and of the layers above."""
    sampled_items: Count = 4096
    """The next item competes against so many random items, drawn anew each step; against all, if there are no more."""
    learning_rate: Positive = 1e-3
    """Adam's learning rate (EAPO B.2.2)."""
    batch: Count = 256
    """Sequences of one step (EAPO B.2.2)."""
    l2: Annotated[tuple[Penalty, ...], Field(min_length=1)] = PENALTIES
    """Adam's L2 penalties on all weights; of several (EAPO B.2.2: 1e-3 to 1e-7) the fit that ranks best is kept."""
    epochs: Count = 200
    """Passes over the sequences, at most."""
    patience: Count = 10
    """Stop after so many epochs that rank no better."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training interactions to fit on, at random (EAPO's study of expert quality: 1, 0.75, 0.5)."""
    seed: int = 0
    """Seed of weights, dropout, order, sampled items, and of what is kept back or left out."""


class Attention(FittedConfig):
    """What SASRec and MoRec share."""

    layers: Count = 2
    """Number of self-attention blocks."""
    heads: Count = 2
    """Number of attention heads."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} is not a multiple of heads {self.heads}")
        return self


class Sasrec(Attention):
    """Self-attention over the history's items (Kang and McAuley 2018)."""

    recommender: Literal["sasrec"] = "sasrec"
    """SASRec."""


class Morec(Attention):
    """SASRec that knows items by their titles, as the run's `model` reads them, not by number (Yuan et al. 2023)."""

    recommender: Literal["morec"] = "morec"
    """MoRec."""
    hidden: Count = 256
    """Hidden units of the projection from title features to item embeddings."""


class Gru4rec(FittedConfig):
    """A recurrent network over the history's items (Hidasi et al. 2016)."""

    recommender: Literal["gru4rec"] = "gru4rec"
    """GRU4Rec."""
    layers: Count = 1
    """Number of recurrent layers."""


class Caser(FittedConfig):
    """Horizontal and vertical convolutions over the latest items (Tang and Wang 2018)."""

    recommender: Literal["caser"] = "caser"
    """Caser."""
    window: Count = 5
    """The latest items that the convolutions see (the paper's L)."""
    horizontal: Count = 16
    """Horizontal filters of each height from 1 to `window`."""
    vertical: Count = 4
    """Vertical filters."""


def _tagged(content: Any) -> Any:
    """A section that does not say which recommender it configures means SASRec."""
    return {"recommender": "sasrec", **content} if isinstance(content, dict) else content


ExpertConfig = Annotated[Sasrec | Gru4rec | Caser, Field(discriminator="recommender"), BeforeValidator(_tagged)]
BaselineConfig = Annotated[
    Random | Popularity | Sasrec | Gru4rec | Caser | Morec, Field(discriminator="recommender"), BeforeValidator(_tagged)
]
BASELINES = ("random", "popularity", "gru4rec", "caser", "sasrec", "morec")
