"""Which token may look at which: one rule, as a dense mask (SDPA, eager) and as a block mask (FlexAttention)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from raypref.models.layout import TitleBatch

WINDOWED = "sliding_attention"
BLOCK = 128  # FlexAttention's own
Rule = Callable[[Tensor | int, Tensor | int, Tensor, Tensor], Tensor]


def rule(batch: TitleBatch, window: int | None = None) -> Rule:
    """`allowed(row, head, query, key)`, bool, of index tensors that broadcast together.

    A query sees keys at or before itself, of its own document, that belong to the prompt or to its own title: of the
    prompt [first, end), and from `own` on. All three are the query's, so that a kernel reads nothing of keys.
    `window`: and less than so many positions back, as sliding-window attention has it; itself always. Padding sees
    earlier padding and itself, which keeps its softmax finite.
    """
    first, end, own = batch.begins, batch.prompt_ends, batch.title_begins
    if window is not None:  # a key of the prompt lies at its place in the document, one of the title in the row
        place = torch.arange(own.shape[1], dtype=own.dtype, device=own.device)
        first = torch.maximum(first, first + batch.positions.to(first.dtype) - (window - 1))
        own = torch.maximum(own, place - (window - 1))

    def allowed(row: Tensor | int, head: Tensor | int, query: Tensor, key: Tensor) -> Tensor:
        of_prompt = (first[row, query] <= key) & (key < end[row, query])
        return (key <= query) & (of_prompt | (own[row, query] <= key))

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
    # The row as a number: as a tensor without dimensions it would be read back from the device, and waited for.
    return rule(batch, window)(span.row, span.row, token[first - span.start :, None], token)


def blocks(batch: TitleBatch, window: int | None = None) -> BlockMask:
    """Make the same for FlexAttention, which skips blocks of tokens where nothing is allowed.

    Which blocks those are follows from where documents lie, on the host: the rule is never written out over all pairs
    of tokens, and no device is waited for. Of blocks that are kept the rule is asked, but for those of a document's
    prompt that all of a later block's tokens see whole.
    """
    rows, length = batch.input_ids.shape
    number = -(-length // BLOCK)
    first, whole = np.arange(number)[None].repeat(rows, 0), np.zeros((rows, number, number), dtype=bool)
    block = np.arange(number)
    for row, own in itertools.groupby(batch.spans, key=lambda span: span.row):
        starts, end = np.full(number * BLOCK, -1), 0
        for span in own:
            starts[span.start : span.end], end = span.start, span.end
            if window is None:  # queries of blocks inside the document, keys of blocks inside its prompt
                queries = (block * BLOCK >= span.start) & ((block + 1) * BLOCK <= span.end)
                keys = (block * BLOCK >= span.start) & ((block + 1) * BLOCK <= span.titles)
                whole[row] |= queries[:, None] & keys & (block < block[:, None])
        starts[end:] = end  # padding sees padding
        first[row] = starts[::BLOCK] // BLOCK
    seen = (first[:, :, None] <= block) & (block <= block[:, None])

    def listed(which: np.ndarray) -> tuple[Tensor, Tensor]:
        """(R, 1, N) how many blocks of keys each block of queries has, (R, 1, N, N) which, those first."""
        order = np.argsort(~which, axis=-1, kind="stable")
        tables = (which.sum(-1), order)
        count, index = (torch.from_numpy(t.astype(np.int32)).to(batch.input_ids.device)[:, None] for t in tables)
        return count, index

    return BlockMask.from_kv_blocks(
        *listed(seen & ~whole), *listed(whole), BLOCK_SIZE=BLOCK, mask_mod=rule(batch, window),
        seq_lengths=(length, length),
    )  # fmt: skip


def for_layers(config: Any, make: Callable[[int | None], Any]) -> Any:
    """`make(window)` in the form that a decoder takes: one mask for all layers, or a dict with one for each type."""
    types = set(getattr(config, "layer_types", None) or ())
    if not types:  # Llama has no window, Mistral one for all layers
        return make(getattr(config, "sliding_window", None))
    masks = {kind: make(config.sliding_window if kind == WINDOWED else None) for kind in types}
    return masks if len(masks) > 1 else masks.popitem()[1]
