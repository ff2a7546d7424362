"""Which token may look at which: one rule, as a dense mask (SDPA, eager) and as a block mask (FlexAttention)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from raypref.models.layout import PROMPT, TitleBatch

WINDOWED = "sliding_attention"
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def rule(batch: TitleBatch, window: int | None = None) -> Rule:
    """`allowed(row, head, query, key)`, bool, of index tensors that broadcast together.

    A query sees keys at or before itself, of its own document, that belong to the prompt or to its own title.
    `window`: and less than so many positions back, as sliding-window attention has it; itself always. Padding sees
    earlier padding and itself, which keeps its softmax finite.
    """
    documents, segments, positions = batch.documents, batch.segments, batch.positions

    def allowed(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_key = segments[row, key]
        seen = (query >= key) & (documents[row, query] == documents[row, key])
        seen = seen & ((of_key == PROMPT) | (of_key == segments[row, query]))
        if window is not None:
            seen = seen & ((query == key) | (positions[row, query] - positions[row, key] < window))
        return seen

    return allowed


def dense(batch: TitleBatch, window: int | None = None) -> Tensor:
    """(R, 1, L, L) bool, True where a query may look."""
    rows, length = batch.input_ids.shape
    row = torch.arange(rows, device=batch.input_ids.device)[:, None, None]
    token = torch.arange(length, device=batch.input_ids.device)
    return rule(batch, window)(row, row, token[:, None], token)[:, None]


def of_document(batch: TitleBatch, number: int, first: int, window: int | None) -> Tensor:
    """(queries, keys) bool of one document: queries are its tokens from `first` (counted in the row) to its end."""
    span = batch.spans[number]
    token = torch.arange(span.start, span.end, device=batch.input_ids.device)
    row = torch.tensor(span.row, device=token.device)
    return rule(batch, window)(row, row, token[first - span.start :, None], token)


def blocks(batch: TitleBatch, window: int | None = None) -> BlockMask:
    """The same for FlexAttention, which skips blocks of tokens where nothing is allowed."""
    rows, length = batch.input_ids.shape
    return create_block_mask(rule(batch, window), rows, None, length, length, device=batch.input_ids.device)


def for_layers(config: Any, make: Callable[[int | None], Any]) -> Any:
    """`make(window)` in the form that a decoder takes: one mask for all layers, or a dict with one for each type."""
    types = set(getattr(config, "layer_types", None) or ())
    if not types:  # Llama has no window, Mistral one for all layers
        return make(getattr(config, "sliding_window", None))
    masks = {kind: make(config.sliding_window if kind == WINDOWED else None) for kind in types}
    return masks if len(masks) > 1 else masks.popitem()[1]
