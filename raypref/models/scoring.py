"""Log-probabilities of many titles after one prompt, in one pass.

A row is `prompt | title_0 | title_1 | ...`: a title sees the prompt and itself, and its positions go on from the
prompt's end, so each title is scored as if it stood there alone while the prompt is computed once. The language-model
head is applied only where a title's token is predicted.

Shape letters: B rows, L tokens of a row, C titles of a row, P places that predict, S scored tokens of all rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raypref.errors import UserError
from raypref.objectives.batch import widen

PADDING = -1
PROMPT = 0
WINDOWED = "sliding_attention"
LAYER_TYPES = {"full_attention", WINDOWED}
SCALED_LOGITS = ("logit_scale", "logits_scaling", "lm_head_multiplier")  # Cohere, Granite, Falcon-H1


@dataclass
class TitleBatch:
    """Token tables of B prompts with C titles each."""

    input_ids: Tensor
    """(B, L) tokens; a title's end token is predicted but never an input."""
    positions: Tensor
    """(B, L) position ids; each title's go on from the end of the prompt."""
    segments: Tensor
    """(B, L) 0 for the prompt, 1..C for titles, -1 for padding."""
    places: Tensor
    """(P,) flat indices into (B, L) whose next token is scored for some title, each once."""
    place: Tensor
    """(S,) index into `places` of each scored token: where it is predicted."""
    label: Tensor
    """(S,) each scored token."""
    title: Tensor
    """(S,) flat index into (B, C) of the title that each scored token belongs to."""
    lengths: Tensor
    """(B, C) scored tokens of each title, end token included."""

    def to(self, device: torch.device) -> TitleBatch:
        return TitleBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


def title_batch(prompts: Sequence[Sequence[int]], titles: Sequence[Sequence[Sequence[int]]], pad_id: int) -> TitleBatch:
    """Lay out rows; every prompt has the same number of titles, each ending with the end token."""
    rows, width = len(prompts), len(titles[0])
    length = max(len(p) + sum(len(t) - 1 for t in ts) for p, ts in zip(prompts, titles))
    input_ids = np.full((rows, length), pad_id, dtype=np.int64)
    positions = np.zeros((rows, length), dtype=np.int64)
    segments = np.full((rows, length), PADDING, dtype=np.int64)
    places: list[int] = []
    place: list[int] = []
    label: list[int] = []
    title: list[int] = []
    for b, (prompt, prompt_titles) in enumerate(zip(prompts, titles)):
        n = len(prompt)
        input_ids[b, :n], positions[b, :n], segments[b, :n] = prompt, np.arange(n), PROMPT
        after_prompt = len(places)  # the prompt's last token predicts the first token of all titles
        places.append(b * length + n - 1)
        end = n
        for c, ids in enumerate(prompt_titles):
            inputs = len(ids) - 1
            input_ids[b, end : end + inputs] = ids[:-1]
            positions[b, end : end + inputs] = np.arange(n, n + inputs)
            segments[b, end : end + inputs] = c + 1
            place += [after_prompt, *range(len(places), len(places) + inputs)]
            places += range(b * length + end, b * length + end + inputs)
            label += ids
            title += [b * width + c] * len(ids)
            end += inputs
    lengths = [[len(ids) for ids in prompt_titles] for prompt_titles in titles]
    return TitleBatch(
        *(torch.from_numpy(a) for a in (input_ids, positions, segments)),
        *(torch.tensor(a, dtype=torch.long) for a in (places, place, label, title, lengths)),
    )


def attention_mask(batch: TitleBatch, window: int | None = None) -> Tensor:
    """(B, 1, L, L) bool, True where a query may look: at or before itself, in the prompt or in its own title.

    `window`: only at keys less than so many positions back, as sliding-window attention has it. A padding token sees
    the prompt and itself, which keeps its softmax finite.
    """
    segments = batch.segments
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    query, key = segments[:, :, None], segments[:, None, :]
    seen = causal & ((key == PROMPT) | (key == query))
    if window is not None:
        near = batch.positions[:, :, None] - batch.positions[:, None, :] < window
        seen &= near | torch.eye(length, dtype=torch.bool, device=segments.device)
    return seen[:, None]


def decoder_masks(model: Any, batch: TitleBatch) -> Tensor | dict[str, Tensor]:
    """The mask in the form that the model's decoder takes: one for all layers, or one for each type of layer."""
    config = model.config.get_text_config()
    eager = config._attn_implementation == "eager"

    def mask(window: int | None) -> Tensor:
        seen = attention_mask(batch, window)
        if not eager:
            return seen
        return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill(
            ~seen, torch.finfo(model.dtype).min
        )

    types = set(getattr(config, "layer_types", None) or ())
    if not types:  # Llama has no window, Mistral one for all layers
        return mask(getattr(config, "sliding_window", None))
    masks = {kind: mask(config.sliding_window if kind == WINDOWED else None) for kind in types}
    return masks if len(masks) > 1 else masks.popitem()[1]


def check_scorable(model: Any) -> None:
    """Refuse a model whose log-probs this module would get wrong."""
    config = model.config.get_text_config()
    faults = [f"layers of type {kind}" for kind in set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES]
    faults += [f"logits scaled by {key}" for key in SCALED_LOGITS if getattr(config, key, None) not in (None, 1.0)]
    if config._attn_implementation not in ("sdpa", "eager"):
        faults.append(f"attention by {config._attn_implementation}")
    if "position_ids" not in inspect.signature(model.get_decoder().forward).parameters:
        faults.append("no position_ids")
    if faults:
        raise UserError(
            f"titles can't be scored with a model of kind '{config.model_type}': " + ", ".join(sorted(faults)),
            where="model.path",
            mend="take a model with full or sliding-window attention: Llama, Qwen2, Qwen3, Mistral, Gemma ...",
        )


class TitleScorer(nn.Module):
    """A causal language model whose forward gives title log-probs: what is trained, wrapped and sharded."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        check_scorable(self._causal_lm())

    def forward(self, batch: TitleBatch) -> Tensor:
        """(B, C) summed log-probs of each title's tokens and its end token, in nats, at least float32."""
        model = self._causal_lm()
        hidden = model.get_decoder()(
            input_ids=batch.input_ids,
            attention_mask=decoder_masks(model, batch),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        logits = widen(model.get_output_embeddings()(hidden.reshape(-1, hidden.shape[-1])[batch.places]))
        cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        if cap is not None:  # Gemma's, which its own forward applies past the head
            logits = cap * torch.tanh(logits / cap)
        # The normalizer is computed once a place, not once a title.
        tokens = logits[batch.place, batch.label] - torch.logsumexp(logits, dim=-1)[batch.place]
        sums = torch.zeros(batch.lengths.numel(), dtype=tokens.dtype, device=tokens.device)
        return sums.index_add(0, batch.title, tokens).view(batch.lengths.shape)

    def _causal_lm(self) -> Any:
        """The Hugging Face model, inside peft's wrapper if there is one."""
        wrapped: Any = self.model
        return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
