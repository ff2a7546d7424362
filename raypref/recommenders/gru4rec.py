"""GRU4Rec: session-based recommendation with a recurrent network (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raypref.config.recommender import Gru4rec
from raypref.recommenders.recommender import SequentialRecommender


class GRU4Rec(SequentialRecommender):
    """Item embeddings, gated recurrent layers as wide, item embeddings again for the output.

    Departures from the paper: cross-entropy over the catalog instead of BPR or TOP1 on a batch's items, and one
    embedding for input and output (its authors' later releases offer both); plain batches of windows, not
    session-parallel ones.
    """

    def __init__(self, config: Gru4rec, items: int) -> None:
        super().__init__(config, items)
        rate = config.dropout if config.layers > 1 else 0.0
        self.recurrent = nn.GRU(config.dimension, config.dimension, config.layers, batch_first=True, dropout=rate)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=config.dimension**-0.5)
        with torch.no_grad():
            self.embedding.weight[items] = 0

    def encode(self, history: Tensor) -> Tensor:
        length = history.shape[1]
        # The state must not move over padding: each row is turned so that its items come first, then turned back.
        padding = (history == self.items).sum(dim=1, keepdim=True)
        place = torch.arange(length, device=history.device)
        there, back = (place + padding) % length, (place - padding) % length
        x: Tensor = self.dropout(self.embedding(history.gather(1, there)))
        states: Tensor = self.recurrent(x)[0]
        states = self.dropout(states)
        return states.gather(1, back[..., None].expand_as(states))
