"""Caser: convolutional sequence embedding recommendation (Tang and Wang, WSDM 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raypref.config.recommender import Caser as CaserConfig
from raypref.recommenders.recommender import SequentialRecommender


class Caser(SequentialRecommender):
    """The latest `window` items as an image (window, D): horizontal filters of each height, pooled over the places they
    slide to; vertical filters that weigh the places; a layer on both; output embeddings of its own.

    Departures from the paper: no user embedding (eq. 10 with the user's half left out), so that users unseen in
    training are served as by the other models; cross-entropy over the catalog instead of a binary one.
    """

    def __init__(self, config: CaserConfig, items: int) -> None:
        super().__init__(config, items)
        self.window, width = config.window, config.dimension
        self.horizontal = nn.ModuleList(nn.Conv1d(width, config.horizontal, h) for h in range(1, self.window + 1))
        self.vertical = nn.Conv1d(1, config.vertical, self.window)
        self.dropout = nn.Dropout(config.dropout)
        self.join = nn.Linear(config.vertical * width + config.horizontal * self.window, width)
        self.output = nn.Embedding(items, width)
        for embedding in (self.embedding, self.output):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        with torch.no_grad():
            self.embedding.weight[items] = 0

    @property
    def item_embedding(self) -> Tensor:
        """(V, D) the output embeddings (the paper's W')."""
        return self.output.weight

    def encode(self, history: Tensor) -> Tensor:
        rows, length = history.shape
        padded = F.pad(history, (self.window - 1, 0), value=self.items)
        x = self.embedding(padded).transpose(1, 2)  # (B, D, L + window - 1)
        # Filters run over the whole sequence once; a window's places are then those that end within it.
        pooled = [
            F.max_pool1d(F.relu(conv(x)), self.window - h + 1, stride=1)
            for h, conv in enumerate(self.horizontal, start=1)
        ]
        weighed = self.vertical(x.reshape(-1, 1, x.shape[-1])).reshape(rows, -1, length)
        features = torch.cat([*pooled, weighed], dim=1).transpose(1, 2)  # (B, L, filters)
        embedding: Tensor = F.relu(self.join(self.dropout(features)))
        return embedding
