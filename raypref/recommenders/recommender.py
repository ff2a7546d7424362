"""What every recommender offers, and what those that read a history in order share.

Shape letters: B histories, L items of a history, C candidates of each, V items of the catalog, D width of an embedding.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raypref.config.recommender import FittedConfig


class Recommender(nn.Module):
    """A model that scores candidates for a history; all that it knows is in its config and its state dict."""

    def __init__(self, config: Any, items: int) -> None:
        super().__init__()
        self.config, self.items = config, items

    @abstractmethod
    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
        """(B, C) scores of candidates (B, C), greater is better; histories of any length, oldest item first."""

    def save(self, folder: Path) -> None:
        """`model.safetensors` and `config.json`, for `load_recommender`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu() for name, value in self.state_dict().items()}, folder / "model.safetensors")
        content = {"items": self.items, **self.config.model_dump(mode="json")}
        (folder / "config.json").write_text(json.dumps(content, indent=1))

    def restore(self, folder: Path) -> None:
        """The weights that `save` left."""
        self.load_state_dict(load_file(folder / "model.safetensors"))


class SequentialRecommender(Recommender):
    """A model that turns a history into a vector and compares it with item embeddings by inner product.

    A subclass writes `encode`. Items are the catalog's codes; code `items` is padding, on the left.
    """

    config: FittedConfig

    def __init__(self, config: FittedConfig, items: int) -> None:
        super().__init__(config, items)
        self.embedding = nn.Embedding(items + 1, config.dimension, padding_idx=items)

    @abstractmethod
    def encode(self, history: Tensor) -> Tensor:
        """(B, L, D) at each place the sequence embedding of the history up to there, from padded codes (B, L)."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def item_embedding(self) -> Tensor:
        """(V, D) embeddings that sequences are compared with: by default the ones that histories are read with."""
        return self.embedding.weight[: self.items]

    @torch.no_grad()
    def sequence_embedding(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(B, D) embeddings of histories of any length, oldest item first; the latest `max_length` items count."""
        latest = [np.asarray(history)[-self.config.max_length :] for history in histories]
        codes = np.full((len(latest), max(1, *map(len, latest))), self.items, dtype=np.int64)
        for row, history in zip(codes, latest):
            row[len(row) - len(history) :] = history
        embedding: Tensor = self.encode(torch.from_numpy(codes).to(self.device))[:, -1]
        return embedding

    @torch.no_grad()
    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
        """(B, C) how likely each candidate (B, C) is to come next, as a logit."""
        return self.scores(self.sequence_embedding(histories), candidates)

    @torch.no_grad()
    def scores(self, sequences: Tensor, candidates: np.ndarray) -> Tensor:
        """(B, C) inner products of sequence embeddings (B, D) and candidates' embeddings."""
        return (sequences[:, None] * self._embedded(candidates)).sum(dim=-1)

    @torch.no_grad()
    def confidences(self, sequences: Tensor, candidates: np.ndarray) -> Tensor:
        """(B, C) how sure it is that a candidate is NOT liked: `(1 - cosine) / 2`, in [0, 1] (NAPO eq. 16)."""
        return (1 - torch.cosine_similarity(sequences[:, None], self._embedded(candidates), dim=-1)) / 2

    def _embedded(self, candidates: np.ndarray) -> Tensor:
        return self.item_embedding[torch.from_numpy(np.asarray(candidates)).to(self.device).long()]
