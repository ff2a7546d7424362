"""How the stage `adapt`, and `raypref adapt`, teach a small model a data set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.base import Frozen
from raypref.config.lora import LoraConfig

Share = Annotated[float, Field(ge=0, le=1)]


class Adaptation(Frozen):
    """How a model is adapted to a data set."""

    tokenizer: Literal["fitted", "own"] = "fitted"
    """fitted: one of the catalog's titles and prompts, in which a title may be one token. own: the model's, as for a
    language model that knows what titles mean."""
    counted: Literal["text", "titles"] = "text"
    """What of a history has a loss: all of its text, or every title's tokens."""
    lora: LoraConfig | None = None
    """Train an adapter, which is merged into the weights at the end (own tokenizer only); none: all weights."""
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
    warmup: Annotated[int, Field(ge=1)] = 100
    """Steps over which the learning rate rises."""
    validation: Annotated[int, Field(ge=0)] = 256
    """Validation prompts that are answered every hundred steps, to tell how it goes."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW; cosine decay."""
    seed: int = 0
    """Seed of what is read when, of the draws and of new weights."""

    @model_validator(mode="after")
    def _an_adapter_keeps_the_embeddings(self) -> Self:
        if self.lora is not None and self.tokenizer != "own":
            raise ValueError(
                "lora: a fitted tokenizer's new embeddings are trained whole; take tokenizer own, or no lora"
            )
        return self
