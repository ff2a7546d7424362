"""Greedy generation of an answer, and whether it names a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPARE_TOKENS = 4  # beyond the longest candidate: enough to see that an answer goes on where a title ends


def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], longest_title: int
) -> list[str]:
    """The first line that the model writes after each prompt, stripped."""
    return [answers[0] for answers in beam_answers(model, tokenizer, prompts, longest_title, 1)]


@torch.no_grad()
def beam_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    longest_title: int,
    beams: int,
) -> list[list[str]]:
    """First lines of the `beams` likeliest texts that beam search finds after each prompt, the likeliest first.

    Likeliest by the sum of log-probs, as by exact ranking: no length penalty. One beam is greedy decoding.
    """
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    generate: Any = model.generate
    search: dict[str, Any] = {"length_penalty": 0.0, "num_return_sequences": beams} if beams > 1 else {}
    output = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=longest_title + SPARE_TOKENS,
        do_sample=False,
        num_beams=beams,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **search,
    )
    texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
    lines = [first_line(text) for text in texts]
    return [lines[i : i + beams] for i in range(0, len(lines), beams)]


def first_line(text: str) -> str:
    """The first line that is not blank, stripped; empty where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def matched_strict(answer: str, candidates: Sequence[str]) -> int:
    """Index of the candidate whose title the answer is exactly; -1: none, the answer is not valid."""
    return next((i for i, title in enumerate(candidates) if title.strip() == answer), -1)


def matched_contains(answer: str, candidates: Sequence[str]) -> int:
    """Index of the one candidate whose title the answer contains, letter case aside; -1: none or several (LLaRA)."""
    found = [i for i, title in enumerate(candidates) if title.strip().lower() in answer.lower()]
    return found[0] if len(found) == 1 else -1
