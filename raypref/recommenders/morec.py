"""MoRec: SASRec on what a text encoder makes of the items (Yuan et al., SIGIR 2023, with titles as the modality)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from raypref.config.recommender import Morec as MorecConfig
from raypref.recommenders.sasrec import INITIAL_STD, SASRec


class MoRec(SASRec):
    """SASRec whose item embeddings are a projection of title features, so that an item without history has one too.

    Departure from the paper: the encoder is not trained with the rest (the paper's two-stage variant), and the
    projection has a hidden layer.
    """

    embedding: TitleEmbedding  # type: ignore[assignment]  # in the place of SASRec's

    def __init__(self, config: MorecConfig, items: int, features: np.ndarray | None = None) -> None:
        """`features` (V, F) of the items' titles; None: they are restored."""
        super().__init__(config, items)
        found = np.zeros((items, 1), dtype=np.float32) if features is None else features
        self.embedding = TitleEmbedding(standardized(torch.from_numpy(found)), config.hidden, config.dimension)

    def restore(self, folder: Path) -> None:
        content = load_file(folder / "model.safetensors")
        width, hidden = content["embedding.features"].shape[1], self.config.hidden  # type: ignore[attr-defined]
        self.embedding = TitleEmbedding(torch.zeros(self.items, width), hidden, self.config.dimension)
        self.load_state_dict(content)


class TitleEmbedding(nn.Module):
    """From codes to projected features; the code after the last item is padding, which is embedded as 0."""

    features: Tensor

    def __init__(self, features: Tensor, hidden: int, width: int) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.inner, self.outer = nn.Linear(features.shape[1], hidden), nn.Linear(hidden, width)
        nn.init.xavier_normal_(self.inner.weight)
        nn.init.normal_(self.outer.weight, std=1.5 * INITIAL_STD * hidden**-0.5)  # about SASRec's spread to begin with
        for layer in (self.inner, self.outer):
            nn.init.zeros_(layer.bias)

    @property
    def weight(self) -> Tensor:
        """(V + 1, width) the embeddings as a table."""
        projected: Tensor = self.outer(F.gelu(self.inner(self.features)))
        return F.pad(projected, (0, 0, 0, 1))

    def forward(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.weight)


def standardized(features: Tensor) -> Tensor:
    """(V, F) float32 with mean 0 and standard deviation 1 in each column over the items; a constant one becomes 0."""
    centred = features.float() - features.float().mean(dim=0)
    return centred / centred.std(dim=0, unbiased=False).clamp(min=1e-6)
