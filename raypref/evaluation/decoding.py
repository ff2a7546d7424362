"""Generation of an answer, greedy or by beam search, and whether it names a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from raypref.data.encoding import decode
from raypref.data.title_text import first_line, normalized

SPARE_TOKENS = 4  # beyond the longest candidate: enough to see that an answer goes on where a title ends


Computed = Callable[[int], DynamicCache]
"""Of so many copies of each prompt the keys and values (see `prompt_cache`)."""


class FirstLine(StoppingCriteria):
    """Ends a row when its first line that is not blank has ended: nothing that comes after it is read."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int) -> None:
        """`start`: tokens of the padded prompts."""
        self.tokenizer, self.start = tokenizer, start

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(B,) bool, whether each row has ended."""
        texts = decode(self.tokenizer, input_ids[:, self.start :])
        return torch.tensor([_line_ended(text) for text in texts], device=input_ids.device)


def _line_ended(text: str) -> bool:
    return any(line.strip() and line != line.splitlines()[0] for line in text.splitlines(keepends=True))


def greedy_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    longest_title: int,
    computed: Computed | None = None,
) -> list[str]:
    """The first line that the model writes after each prompt, stripped.

    Args:
        computed: gives the prompts' keys and values; None: they are computed here.
    """
    start = max(map(len, prompts))
    stop = StoppingCriteriaList([FirstLine(tokenizer, start)])
    output = generate(model, tokenizer, prompts, longest_title, computed and computed(1), stopping_criteria=stop)
    return [first_line(text) for text in decode(tokenizer, output[:, start:])]


def beam_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    longest_title: int,
    beams: int,
    computed: Computed | None = None,
) -> list[list[str]]:
    """First lines of the `beams` likeliest texts that beam search finds after each prompt, the likeliest first.

    Likeliest by the sum of log-probs, as by exact ranking: no length penalty. A text counts as a whole, to its end
    token, also where it has several lines.
    """
    search = {"num_beams": beams, "length_penalty": 0.0, "num_return_sequences": beams}
    output = generate(model, tokenizer, prompts, longest_title, computed and computed(beams), **search)
    lines = [first_line(text) for text in decode(tokenizer, output[:, max(map(len, prompts)) :])]
    return [lines[i : i + beams] for i in range(0, len(lines), beams)]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    longest_title: int,
    cache: DynamicCache | None,
    **how: Any,
) -> Tensor:
    """Generate (rows, W + tokens) ids: prompts, padded on the left to W tokens, and what the model says after them."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    generate: Any = model.generate
    output: Tensor = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=longest_title + SPARE_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({} if cache is None else {"past_key_values": cache}),
        **how,
    )
    return output


def match_strict(answer: str, candidates: Sequence[str]) -> int:
    """Find the candidate whose title the answer is exactly, both in the form of `title_text.normalized`; -1: none,
    the answer is not valid.
    """
    said = normalized(answer)
    return next((i for i, title in enumerate(candidates) if normalized(title) == said), -1)


def match_contains(answer: str, candidates: Sequence[str]) -> int:
    """Find the one candidate whose title the answer contains, letter case aside; -1: none or several (LLaRA)."""
    said = normalized(answer).lower()
    found = [i for i, title in enumerate(candidates) if normalized(title).lower() in said]
    return found[0] if len(found) == 1 else -1
