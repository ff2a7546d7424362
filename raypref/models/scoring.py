"""Log-probabilities of many titles after one prompt, in one pass.

The prompt is computed once for all its titles (`layout.py`); a title sees the prompt and itself (`masks.py`), so each
is scored as if it stood there alone. The last decoder layer (`last_layer.py`) and the language-model head are computed
only where a title's token is predicted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from raypref.errors import UserError
from raypref.models import attention as shared_prefix
from raypref.models import masks
from raypref.models.last_layer import only_places
from raypref.models.layout import Rows, TitleBatch
from raypref.objectives.batch import widen

LAYER_TYPES = {"full_attention", masks.WINDOWED}
SCALED_LOGITS = ("logit_scale", "logits_scaling", "lm_head_multiplier")  # Cohere, Granite, Falcon-H1
CHUNK = 1 << 26  # logits at a time, all places together: 256 MiB in float32

Attention = Literal["auto", "documents", "flex", "dense"]
"""How attention is computed. documents: SDPA document by document. flex: FlexAttention under a block mask. dense: one
SDPA (or eager attention) under a 4-D mask, the reference of the other two. auto: documents, but dense where the model
does not take SDPA."""


def vocabulary_logits(model: Any, states: Tensor) -> Tensor:
    """(N, V) logits of (N, width) last hidden states, at least float32."""
    logits = widen(model.get_output_embeddings()(states))
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap is not None:  # Gemma's, which its own forward applies past the head
        logits = cap * torch.tanh(logits / cap)
    return logits


def check_scorable(model: Any) -> None:
    """Refuse a model whose log-probs this module would get wrong."""
    config = model.config.get_text_config()
    faults = [f"layers of type {kind}" for kind in set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES]
    faults += [f"logits scaled by {key}" for key in SCALED_LOGITS if getattr(config, key, None) not in (None, 1.0)]
    if config._attn_implementation not in ("sdpa", "eager", shared_prefix.NAME):
        faults.append(f"attention by {config._attn_implementation}")
    if "position_ids" not in inspect.signature(model.get_decoder().forward).parameters:
        faults.append("no position_ids")
    if faults:
        raise UserError(
            f"titles can't be scored with a model of kind '{config.model_type}': " + ", ".join(sorted(faults)),
            where="model.path",
            hint="take a model with full or sliding-window attention: Llama, Qwen2, Qwen3, Mistral, Gemma ...",
        )


def compile_each(layers: Iterable[nn.Module]) -> None:
    """Let torch.compile fuse each of some layers at its first pass."""
    for layer in layers:
        layer.compile()


class TitleScorer(nn.Module):
    """A causal language model whose forward gives title log-probs: what is trained, wrapped and sharded."""

    def __init__(self, model: nn.Module, attention: Attention = "auto") -> None:
        super().__init__()
        self.model = model
        inner = self.causal_lm()
        check_scorable(inner)
        self.trimmed = only_places(inner.get_decoder())
        # What the layers' attention is told reaches it only where the last layer could be taught: families that pass
        # keyword arguments on.
        able = self.trimmed and inner.config.get_text_config()._attn_implementation != "eager"
        if attention not in ("auto", "dense") and not able:
            raise UserError(
                f"a model of kind '{inner.config.model_type}' has no attention '{attention}'",
                where="resources.attention",
                hint="take auto or dense",
            )
        self.attention = ("documents" if able else "dense") if attention == "auto" else attention
        if able:
            inner.set_attn_implementation("sdpa" if self.attention == "dense" else shared_prefix.NAME)

    def compile_layers(self) -> None:
        """Fuse each decoder layer by torch.compile, but for one that is computed only at places (`last_layer.py`).

        Layer by layer, as they are alike: one is compiled, the others are served by it.
        """
        layers = self.causal_lm().get_decoder().layers
        compile_each(layers[: len(layers) - self.trimmed])

    def rows(self, packing: bool = True) -> Rows:
        """The rows that suit the attention: a dense mask, which grows with the square of a row, gets a row a prompt."""
        return Rows(packing and self.attention != "dense", masks.BLOCK if self.attention == "flex" else 1)

    def forward(self, batch: TitleBatch, cache: DynamicCache | None = None) -> Tensor:
        """(B, C) summed log-probs of each title's tokens and its end token, in nats, at least float32.

        Args:
            cache: an empty one, made without a config, is filled with the keys and values of all tokens.
        """
        model = self.causal_lm()
        told = {"titles": batch} if self.trimmed else {}
        hidden = model.get_decoder()(
            input_ids=batch.input_ids,
            attention_mask=self._masks(model, batch),
            position_ids=batch.positions,
            past_key_values=cache,
            use_cache=cache is not None,
            **told,
        ).last_hidden_state
        tokens = self.token_logps(model, hidden.flatten(0, 1)[batch.places], batch)
        sums = torch.zeros(batch.lengths.numel(), dtype=tokens.dtype, device=tokens.device)
        return sums.index_add(0, batch.title, tokens).view(batch.lengths.shape)

    def _masks(self, model: Any, batch: TitleBatch) -> Any:
        config = model.config.get_text_config()
        if self.attention == "documents":  # it makes its own; this only keeps the decoder from making one
            unread = torch.empty(1, 1, 1, 1, device=batch.input_ids.device)
            return masks.for_layers(config, lambda window: unread)
        if self.attention == "flex":
            return masks.for_layers(config, lambda window: masks.blocks(batch, window))

        return masks.for_layers(config, lambda window: self.as_attention_mask(masks.dense(batch, window)))

    def as_attention_mask(self, seen: Tensor) -> Tensor:
        """Of (rows, 1, queries, keys) bool, where a query may look, what the model's attention takes."""
        model = self.causal_lm()
        if model.config.get_text_config()._attn_implementation != "eager":
            return seen
        return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill(
            ~seen, torch.finfo(model.dtype).min
        )

    def token_logps(self, model: Any, hidden: Tensor, batch: TitleBatch) -> Tensor:
        """(S,) log-prob of each scored token, from the hidden states (P, H) of the places that predict them.

        The normalizer is computed once a place, not once a title. Logits are held in chunks of places; where there is
        more than one, they are computed again in the backward pass instead of kept.
        """

        def chunk(states: Tensor, place: Tensor, label: Tensor) -> Tensor:
            logits = vocabulary_logits(model, states)
            return logits[place, label] - torch.logsumexp(logits, dim=-1)[place]

        size = max(1, CHUNK // model.config.get_text_config().vocab_size)
        if len(hidden) <= size:
            return chunk(hidden, batch.place, batch.label)
        parts, order = [], []
        for first in range(0, len(hidden), size):
            here = np.flatnonzero((batch.host_place >= first) & (batch.host_place < first + size))
            chosen = torch.from_numpy(here).to(hidden.device)
            order.append(chosen)
            given = (hidden[first : first + size], batch.place[chosen] - first, batch.label[chosen])
            parts.append(checkpoint(chunk, *given, use_reentrant=False))
        return torch.cat(parts)[torch.argsort(torch.cat(order))]

    def causal_lm(self) -> Any:
        """The Hugging Face model, inside peft's wrapper if there is one."""
        wrapped: Any = self.model
        return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
