"""A run's language model, as a stage left it, and where this process computes; imports what models need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from raypref.config import RunConfig
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.behaviour import attach
from raypref.recommenders import load_recommender
from raypref.storage.inventory import model_dropped


def load_policy(config: RunConfig, tokenized: Path, trained: Path | None) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model that an sft or align stage left, or the untrained one, on this process's device, and its tokenizer."""
    tokenizer = backbone.load_tokenizer(tokenized / "tokenizer")
    if trained is None:
        model = backbone.build(config.backbone.model_copy(update={"lora": None}), tokenizer)
    else:
        if model_dropped(trained):
            raise UserError(
                "this trial's model was not kept (resources.keep_models)",
                where=str(trained),
                hint="delete that folder and run the trial again with --resources.keep-models all",
            )
        model = backbone.restore(config.backbone, tokenizer, trained / "model")
    return model.to(device()), tokenizer  # type: ignore[arg-type]


def device() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def attach_behaviour(config: RunConfig, model: Any, tokenizer: PreTrainedTokenizerBase, expert: Path) -> None:
    """Let a fresh policy read behavioural tokens, from what the expert stage in `expert` knows of the items."""
    items = load_recommender(expert / "model").item_embedding
    attach(model, items, len(tokenizer), config.llara.hidden, config.backbone.seed)
