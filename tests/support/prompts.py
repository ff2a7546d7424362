"""Prompts of uneven lengths, and the keys and values that scoring leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from raypref.models.layout import title_batch
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer


@torch.no_grad()
def scored(model: Any, prompts: Sequence[Sequence[int]], end: int, pad: int) -> tuple[TitleScorer, DynamicCache]:
    """A scorer of the model, and the prompts' cache, cut from one pass over prompts and titles of uneven lengths."""
    titles = [[[7, 8, 9, end], [5, end]] for _ in prompts]
    scorer, cache = TitleScorer(model), DynamicCache()
    batch = title_batch(prompts, titles, pad, scorer.rows())
    scorer(batch, cache)
    return scorer, prompt_cache(cache, batch)
