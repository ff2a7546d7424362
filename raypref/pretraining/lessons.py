"""What a small model is taught before it is fine-tuned: to copy, and to answer a prompt with one of its candidates.

Copying comes first, on random sequences: a model that can't copy yet gets no signal from the prompts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raypref.data.encoding import decode, encode_prompts, encode_titles
from raypref.models.scoring import vocabulary_logits

COPY_BATCH = 64
SPECIAL = 3  # tokens before the first one of text: begin, end, pad


@dataclass(frozen=True)
class Question:
    """A prompt and the title that answers it."""

    prompt: str
    answer: str
    candidates: list[str]
    liked: Sequence[bool] = ()
    """Which candidates the user took later and liked, the answer among them; empty: the answer alone, or not known."""


@dataclass(frozen=True)
class Lesson:
    """A batch of texts, padded on the right."""

    ids: Tensor
    """(B, L) tokens."""
    weights: Tensor
    """(B, L) how much each token's loss counts, given the tokens before it; 0 for padding. The first has no loss."""
    ends: Tensor | None = None
    """(B, C) where each candidate of a prompt ends: the place of its title's last token."""
    liked: Tensor | None = None
    """(B, C) bool: which candidates the user took later and liked, the answer among them."""
    asked_at: Tensor | None = None
    """(B,) the place of a prompt's last token, which the answer's first one follows."""

    def to(self, device: torch.device) -> Lesson:
        return Lesson(self.ids.to(device), self.weights.to(device))


def padded(rows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], pad: int) -> Lesson:
    """Rows of tokens and their weights as one batch."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    laid = torch.zeros(ids.shape)
    for i, (row, own) in enumerate(zip(rows, weights)):
        ids[i, : len(row)] = torch.tensor(row)
        laid[i, : len(row)] = torch.tensor(own)
    return Lesson(ids, laid)


def copies(rng: np.random.Generator, longest: int, vocabulary: int) -> Lesson:
    """Random sequences of less than `longest` tokens, written twice; the second time counts, as it can be predicted."""
    length = int(rng.integers(4, longest))
    once = torch.from_numpy(rng.integers(SPECIAL, vocabulary, (COPY_BATCH, length)))
    ids = torch.cat([once, once], dim=1)
    weights = torch.zeros(ids.shape)
    weights[:, length + 1 :] = 1.0
    return Lesson(ids, weights)


def asked(batch: Sequence[Question], tokenizer: PreTrainedTokenizerBase, history_weight: float = 0.0) -> Lesson:
    """Questions with their answers; a title's token and the end's count 1, the history's `history_weight`.

    What stands between history and answer can't be foreseen, and counts nothing. With a `history_weight`, a newline has
    to be a token and the questions need equally many candidates; the lesson then knows where those end and
    where the prompt does.
    """
    prompts = encode_prompts(tokenizer, [q.prompt for q in batch])
    answers = encode_titles(tokenizer, [q.answer for q in batch])
    rows = [[*p, *a, tokenizer.eos_token_id] for p, a in zip(prompts, answers)]
    if not history_weight:
        weights = [[0.0] * len(p) + [1.0] * (len(row) - len(p)) for p, row in zip(prompts, rows)]
        return padded(rows, weights, tokenizer.pad_token_id)
    (newline,) = encode_titles(tokenizer, ["\n"])[0]
    # From the last line on: the answer's, the candidates', the task's.
    breaks = [np.flatnonzero(np.array(p) == newline)[-len(q.candidates) - 3 :] for p, q in zip(prompts, batch)]
    weights = [
        [history_weight] * (b[0] + 1) + [0.0] * (len(p) - b[0] - 1) + [1.0] * (len(row) - len(p))
        for b, p, row in zip(breaks, prompts, rows)
    ]
    lesson = padded(rows, weights, tokenizer.pad_token_id)
    liked = torch.tensor([[*q.liked] or [c == q.answer for c in q.candidates] for q in batch])
    ends = torch.from_numpy(np.stack(breaks)[:, 2:-1] - 1)
    return dataclasses.replace(lesson, ends=ends, liked=liked, asked_at=torch.tensor([len(p) - 1 for p in prompts]))


def loss_of(model: Any, lesson: Lesson, states: Tensor | None = None) -> Tensor:
    """Weighted mean of the tokens' losses, in nats; logits are made only where one counts.

    Args:
        states: (B, L, width) the last hidden states, where they are known.
    """
    weights = lesson.weights[:, 1:]
    counts = weights > 0
    if states is None:
        states = model.base_model(input_ids=lesson.ids, use_cache=False).last_hidden_state
    logits = vocabulary_logits(model, states[:, :-1][counts])
    losses = torch.nn.functional.cross_entropy(logits, lesson.ids[:, 1:][counts], reduction="none")
    return (losses * weights[counts]).sum() / weights.sum()


def adamw(parameters: Iterable[Tensor]) -> torch.optim.AdamW:
    """The optimizer of small models; `descend` sets its learning rate."""
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def descend(model: Any, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    """Take a step at a learning rate, the model's gradients clipped to a norm of 1; the loss."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def check(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> dict[str, float]:
    """Greedily: the share of answers that are a candidate, and that are the right one."""
    model.eval()
    valid = right = 0
    longest = max(len(ids) for ids in encode_titles(tokenizer, [c for q in questions for c in q.candidates]))
    for first in range(0, len(questions), 64):
        part = questions[first : first + 64]
        prompts = {"input_ids": encode_prompts(tokenizer, [q.prompt for q in part])}
        inputs = tokenizer.pad(prompts, return_tensors="pt", padding_side="left").to(model.device)
        output = model.generate(
            **inputs,
            max_new_tokens=longest + 1,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        said = decode(tokenizer, output[:, inputs["input_ids"].shape[1] :])
        valid += sum(s.strip() in q.candidates for s, q in zip(said, part))
        right += sum(s.strip() == q.answer for s, q in zip(said, part))
    model.train()
    return {"valid_ratio": valid / len(questions), "hr@1": right / len(questions)}
