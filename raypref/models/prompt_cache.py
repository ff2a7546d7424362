"""Keys and values of prompts, taken from the pass that scored their titles: generation need not compute them again."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from raypref.models.layout import TitleBatch


def prompt_cache(scored: DynamicCache, batch: TitleBatch, copies: int = 1) -> DynamicCache:
    """Of each prompt all tokens but the last, which `generate` computes itself, padded on the left.

    Args:
        scored: what `TitleScorer` filled for `batch`: of each layer keys and values (R, H_kv, L, D).
        copies: of each prompt, one after the other, as beam search has them.

    Returns:
        of each layer keys and values (B * copies, H_kv, W, D); W is the length of the longest prompt less one. What
        stands for padding is some other token, which the attention mask hides. Layers with a sliding window have all
        W tokens too: there the window is a matter of the mask.
    """
    lengths = [span.titles - span.start - 1 for span in batch.spans]
    width, row = max(lengths), batch.input_ids.shape[1]
    ends = torch.tensor([span.row * row + span.titles - 1 for span in batch.spans])
    places = (ends[:, None] + torch.arange(-width, 0)).clamp(min=0).repeat_interleave(copies, dim=0)
    places = places.to(batch.input_ids.device)

    def cut(states: Tensor) -> Tensor:
        by_token = states.transpose(1, 2).flatten(0, 1)[places.flatten()]
        return by_token.view(*places.shape, *by_token.shape[1:]).transpose(1, 2)

    cache = DynamicCache()
    for number, layer in enumerate(scored.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        cache.update(cut(layer.keys), cut(layer.values), number)
    return cache
