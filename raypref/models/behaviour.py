"""Behavioural tokens (LLaRA, Liao et al., SIGIR 2024): what a recommender knows of an item, as a token of a prompt.

Token `first + i` stands for item i. It has no row in the vocabulary: a small network projects the recommender's
embedding of the item, which is kept as it is, into the space of the model's token embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

FILE = "behaviour.safetensors"


class BehaviouralEmbedding(nn.Module):
    """A model's token embeddings, and beyond them items'."""

    items: Tensor

    def __init__(self, text: nn.Module, items: Tensor, first: int, width: int, hidden: int) -> None:
        """`items` (V, D): the recommender's embeddings; `first`: the token of item 0; `width` of a token embedding."""
        super().__init__()
        self.text, self.first = text, first
        self.register_buffer("items", items.detach().clone())
        self.inner, self.outer = nn.Linear(items.shape[1], hidden), nn.Linear(hidden, width)

    @property
    def weight(self) -> Tensor:
        """The token embeddings, for what asks a model's embeddings of their table."""
        table: Tensor = self.text.weight  # type: ignore[assignment]
        return table

    def project(self, codes: Tensor) -> Tensor:
        """(n, width) of items (n,)."""
        projected: Tensor = self.outer(F.gelu(self.inner(self.items[codes])))
        return projected

    def forward(self, ids: Tensor) -> Tensor:
        """(R, L, width) of tokens (R, L)."""
        behavioural = ids >= self.first
        embedded: Tensor = self.text(ids.masked_fill(behavioural, 0))
        if not behavioural.any() and not self.training:
            return embedded
        # In training the projection takes part in every batch, even in one of texts alone: workers add up gradients.
        codes = (ids - self.first).clamp(min=0)
        found = self.project(codes.flatten()).view_as(embedded).to(embedded.dtype)
        return torch.where(behavioural[..., None], found, embedded)


def attach(model: Any, items: Tensor, first: int, hidden: int, seed: int) -> None:
    """Let `model`, inside peft's wrapper if there is one, read behavioural tokens; the projection is new."""
    inner = _causal_lm(model)
    text = inner.get_input_embeddings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = BehaviouralEmbedding(text, items.float().cpu(), first, text.weight.shape[1], hidden)
    inner.set_input_embeddings(made.to(text.weight.device))


def detached(model: Any) -> BehaviouralEmbedding | None:
    """What `attach` put there, taken out again; None where there is nothing."""
    inner = _causal_lm(model)
    found = inner.get_input_embeddings()
    if not isinstance(found, BehaviouralEmbedding):
        return None
    inner.set_input_embeddings(found.text)
    return found


def put_back(model: Any, behaviour: BehaviouralEmbedding) -> None:
    _causal_lm(model).set_input_embeddings(behaviour)


def save_behaviour(behaviour: BehaviouralEmbedding, folder: Path) -> None:
    """The items' embeddings and the projection, beside the model's own weights."""
    content = {k: v.detach().cpu().contiguous() for k, v in behaviour.state_dict().items() if not k.startswith("text.")}
    save_file(content | {"first": torch.tensor(behaviour.first)}, folder / FILE)


def attach_saved(model: Any, folder: Path) -> None:
    """What `save_behaviour` left in `folder`, if anything."""
    if not (folder / FILE).is_file():
        return
    content = load_file(folder / FILE)
    attach(model, content["items"], int(content.pop("first")), len(content["inner.bias"]), seed=0)
    _causal_lm(model).get_input_embeddings().load_state_dict(content, strict=False)  # text is there already


def _causal_lm(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
