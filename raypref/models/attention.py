"""Attention of shared prefixes, registered with transformers under the name `shared_prefix`.

Without title batch it is transformers' own SDPA, so that generation goes on working. With one, either FlexAttention
under a block mask, or SDPA document by document: no time on padding or on other documents, a prompt by the causal
kernel, and a mask only for the title tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from raypref.models import masks
from raypref.models.layout import TitleBatch

NAME = "shared_prefix"
TILES = {"fwd_BLOCK_M": 128, "fwd_BLOCK_N": 64, "fwd_num_warps": 8}
"""FlexAttention's tiles: rows of many short documents, under a rule of three numbers a query, leave its own ones, made
for long causal rows, half as fast (docs/performance.md)."""
ONLY_PLACES = "only_places"  # set on the attention of a layer whose output is read at `places` alone


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    titles: TitleBatch | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """(R, L, H, D) attended values of queries (R, H, L, D), keys and values (R, H_kv, L, D)."""
    if titles is None or isinstance(attention_mask, BlockMask):
        inner = "sdpa" if titles is None else "flex_attention"
        if titles is not None and query.is_cuda:
            kwargs = {"kernel_options": TILES, **kwargs}
        output, _ = ALL_ATTENTION_FUNCTIONS[inner](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    only_places = getattr(module, ONLY_PLACES, False)
    lengths = [span.end - span.start for span in titles.spans]
    parts = [
        _document(q, k, v, titles, number, dropout, scaling, sliding_window, only_places)
        for number, (q, k, v) in enumerate(
            zip(*(_documents(states, titles, lengths) for states in (query, key, value)), strict=True)
        )
    ]
    return _rows(parts, titles, query.shape[2]), None


def _documents(states: Tensor, titles: TitleBatch, lengths: list[int]) -> list[Tensor]:
    """States (R, H, L, D) cut into those of each document (1, H, tokens, D)."""
    if len(states) == 1:  # packed: one split, whose backward pass is one concatenation
        rest = states.shape[2] - sum(lengths)
        return list(states.split([*lengths, rest] if rest else lengths, dim=2))[: len(lengths)]
    return [row[:, :, :length] for row, length in zip(states.split(1), lengths)]


def _rows(parts: list[Tensor], titles: TitleBatch, length: int) -> Tensor:
    """Documents (1, tokens, H, D) put back into rows (R, length, H, D)."""
    if len(titles.input_ids) == 1:
        return _padded(torch.cat(parts, dim=1), length)
    return torch.cat([_padded(part, length) for part in parts])


def _padded(part: Tensor, length: int) -> Tensor:
    return nn.functional.pad(part, (0, 0, 0, 0, 0, length - part.shape[1])) if part.shape[1] < length else part


def _document(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    titles: TitleBatch,
    number: int,
    dropout: float,
    scaling: float | None,
    window: int | None,
    only_places: bool,
) -> Tensor:
    """(1, tokens, H, D) of one document; with `only_places`, of the prompt its last token alone counts."""
    span = titles.spans[number]
    prompt, tokens = span.titles - span.start, span.end - span.start
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))

    def sdpa(queries: Tensor, last: int, mask: Tensor | None) -> Tensor:
        """Of some of the document's queries, over its first `last` keys."""
        return scaled_dot_product_attention(
            queries,
            key[:, :, :last] if last < tokens else key,
            value[:, :, :last] if last < tokens else value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
        ).transpose(1, 2)

    windowed = window is not None and window < prompt
    if rounds_by_place(value) and tokens > prompt and (window is None or window >= tokens):
        of_prompt = sdpa(query[:, :, :prompt], prompt, None)
        of_titles = _each_alone(query, key, value, prompt, titles.lengths[number] - 1, dropout, scaling)
        return torch.cat([of_prompt, of_titles], dim=1)
    if only_places:
        read = sdpa(query[:, :, prompt - 1 :], tokens, masks.of_document(titles, number, span.titles - 1, window))
        return nn.functional.pad(read, (0, 0, 0, 0, prompt - 1, 0))
    if windowed:
        return sdpa(query, tokens, masks.of_document(titles, number, span.start, window))
    if tokens == prompt:
        return sdpa(query, tokens, None)
    # One split, whose backward pass is one concatenation: that of slices fills the rest with zeros and adds.
    of_prompt, of_titles = query.split([prompt, tokens - prompt], dim=2)
    mask = masks.of_document(titles, number, span.titles, window)
    return torch.cat([sdpa(of_prompt, prompt, None), sdpa(of_titles, tokens, mask)], dim=1)


def rounds_by_place(value: Tensor) -> bool:
    """Whether `_each_alone` is worth its calls."""
    held = value.untyped_storage().device.type  # of a tensor without content, as memory is predicted with: meta
    return value.dtype == torch.bfloat16 and held == "cpu"


def _each_alone(
    query: Tensor, key: Tensor, value: Tensor, prompt: int, lengths: Tensor, dropout: float, scaling: float | None
) -> Tensor:
    """(1, title tokens, H, D) of a document's titles, each over the prompt's keys and its own, and no others' between.

    In bfloat16 a sum's rounding depends on where its terms lie, so that a title beside others would not get the
    log-prob that the reference has of it, and step 0 of DPO would not be ln 2. On a CPU products round alike in batches
    of any size, so this is all it takes. On a GPU they don't, and more calls cost more than the rounding is worth.

    Args:
        lengths: (C,) tokens of each title; those of one length go together.
    """
    counts = lengths.tolist()
    ends = prompt + torch.cumsum(lengths, 0)
    parts, order = [], []
    for length in sorted(set(counts) - {0}):
        starts = ends[lengths == length] - length
        places = starts[:, None] + torch.arange(length)  # (c, length)
        own_query, own_key, own_value = (states[0][:, places].transpose(0, 1) for states in (query, key, value))
        read = scaled_dot_product_attention(  # (c, H, length, D)
            own_query,
            torch.cat([key[:, :, :prompt].expand(len(places), -1, -1, -1), own_key], dim=2),
            torch.cat([value[:, :, :prompt].expand(len(places), -1, -1, -1), own_value], dim=2),
            attn_mask=torch.ones(length, prompt + length, dtype=torch.bool).tril(prompt),
            dropout_p=dropout,
            scale=scaling,
        )
        parts.append(read.transpose(1, 2).flatten(0, 1))
        order.append(places.flatten())
    return torch.cat(parts)[torch.argsort(torch.cat(order))][None]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
