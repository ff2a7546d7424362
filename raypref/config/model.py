"""The backbone: which causal language model is trained, and with which adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raypref.config.adaptation import Adaptation
from raypref.config.base import Frozen
from raypref.config.lora import LoraConfig as LoraConfig

Count = Annotated[int, Field(ge=1)]


class ScratchModel(Frozen):
    """A small Llama made from this config, with a tokenizer trained on the catalog's own prompts."""

    kind: Literal["scratch"] = "scratch"
    hidden_size: Count = 128
    """Width of the residual stream."""
    layers: Count = 3
    """Number of decoder blocks."""
    heads: Count = 4
    """Number of attention heads."""
    key_value_heads: Count = 4
    """Number of key-value heads (grouped-query attention)."""
    intermediate_size: Count = 384
    """Width of the gated feed-forward layer."""
    vocabulary: Annotated[int, Field(ge=300)] = 2048
    """Size of the tokenizer's vocabulary, at most."""
    seed: int = 0
    """Seed of the initial weights."""
    lora: LoraConfig | None = None
    """Train adapters only; none: all weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchModel:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}")
        return self


class PretrainedModel(Frozen):
    """A Hugging Face causal language model, by hub name or folder."""

    kind: Literal["pretrained"] = "pretrained"
    path: str = "meta-llama/Meta-Llama-3-8B-Instruct"
    """Hub name (meta-llama/..., Qwen/...); a folder with config, safetensors weights and tokenizer; a GGUF file, or its
    parts with commas between; or a name of `raypref model list`."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type that frozen weights are held in; trained weights are float32 where they are all trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, far less memory."""
    seed: int = 0
    """Seed of the adapter's initial weights."""
    lora: LoraConfig | None = LoraConfig()
    """Train adapters only; none: all weights."""


BareModel = Annotated[ScratchModel | PretrainedModel, Field(discriminator="kind")]


class AdaptedModel(Frozen):
    """A model that learns the training data's titles and histories, and then is fine-tuned (the stage `adapt`)."""

    kind: Literal["adapted"] = "adapted"
    base: BareModel = Field(default_factory=lambda: PretrainedModel(path="raypref-tiny", dtype="float32", lora=None))
    """What it is before."""
    adapt: Adaptation = Adaptation()
    """How it learns."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that frozen weights are held in afterwards; trained weights are float32 where they are all trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, far less memory."""
    seed: int = 0
    """Seed of the adapter's initial weights."""
    lora: LoraConfig | None = None
    """Train adapters only; none: all weights."""

    def at(self, folder: Path) -> PretrainedModel:
        """The model once it has been adapted, from the folder it lies in."""
        own = {name: getattr(self, name) for name in ("dtype", "gradient_checkpointing", "seed", "lora")}
        return PretrainedModel(path=str(folder), **own)


ModelConfig = Annotated[ScratchModel | PretrainedModel | AdaptedModel, Field(discriminator="kind")]
