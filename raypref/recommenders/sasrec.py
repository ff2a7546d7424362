"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raypref.config.recommender import Attention
from raypref.recommenders.recommender import SequentialRecommender

INITIAL_STD = 0.02


class SASRec(SequentialRecommender):
    """Item and position embeddings, blocks of causal self-attention and feed-forward layers, tied item embeddings.

    As the paper's section 3, `x + Dropout(g(LayerNorm(x)))` around each layer `g` (the published code adds to the
    normalized x instead). Positions count from the newest item back, as the padding on the left has it.
    """

    def __init__(self, config: Attention, items: int) -> None:
        super().__init__(config, items)
        self.position = nn.Embedding(config.max_length, config.dimension)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dimension)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embedding.weight[items] = 0

    def encode(self, history: Tensor) -> Tensor:
        length = history.shape[1]
        known = history != self.items
        x = self.embedding(history) * self.config.dimension**0.5 + self.position.weight[-length:]
        x = self.dropout(x)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=x.device)  # keeps the softmax of padding finite
        mask = (causal & (known[:, None] | itself))[:, None]
        for block in self.blocks:
            x = block(x, mask)
        embedding: Tensor = self.norm(x)
        return embedding


class _Block(nn.Module):
    """Self-attention (eq. 4: heads side by side, no output projection), then two layers for each place (eq. 5)."""

    def __init__(self, config: Attention) -> None:
        super().__init__()
        width = config.dimension
        self.heads, self.rate = config.heads, config.dropout
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.feed = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to the same; mask (B, 1, L, L), True where a place may look."""
        batch, length, width = x.shape
        parts = self.query_key_value(self.attention_norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        x = x + self.dropout(seen.transpose(1, 2).reshape(batch, length, width))
        result: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return result
