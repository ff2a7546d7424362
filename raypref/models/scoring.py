"""Log-probabilities of many titles after one prompt, in one pass.

A row is `prompt | title_0 | title_1 | ...`: a title sees the prompt and itself, and its positions go on from the prompt's
end, so each title is scored as if it stood there alone while the prompt is computed once. The language-model head is
applied only where a title's token is predicted.

Shape letters: B rows, L tokens of a row, C titles of a row, P places that predict, S scored tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

PADDING = -1
PROMPT = 0


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


def attention_mask(segments: Tensor) -> Tensor:
    """(B, 1, L, L) bool, True where a query may look: at or before itself, in the prompt or in its own title.

    A padding token sees itself alone, which keeps its softmax finite.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    query, key = segments[:, :, None], segments[:, None, :]
    return (causal & ((key == PROMPT) | (key == query)))[:, None]


class TitleScorer(nn.Module):
    """A causal language model whose forward gives title log-probs: what is trained, wrapped and sharded."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TitleBatch) -> Tensor:
        """(B, C) summed log-probs of each title's tokens and its end token, in nats, float32."""
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        mask = attention_mask(batch.segments)
        hidden = model.get_decoder()(
            input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        at_places = hidden.reshape(-1, hidden.shape[-1])[batch.places]
        tokens = self._token_logps(model.get_output_embeddings(), at_places, batch.place, batch.label)
        sums = torch.zeros(batch.lengths.numel(), dtype=tokens.dtype, device=tokens.device)
        return sums.index_add(0, batch.title, tokens).view(batch.lengths.shape)

    def _token_logps(self, head: nn.Module, hidden: Tensor, place: Tensor, label: Tensor) -> Tensor:
        """(S,) log-probs of `label` predicted from `hidden[place]`; the normalizer is computed once a place."""
        logits = head(hidden).float()
        return logits[place, label] - torch.logsumexp(logits, dim=-1)[place]
