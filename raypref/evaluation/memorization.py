"""Does a model know a catalog because it has read it? A benchmark that it has read is none; asked before fine-tuning.

Two questions, each with a right and a made-up answer that are alike in all but the truth, so that chance is one half:

- A title from its first half: its own second half, or another title's of as many tokens.
- A user's history as lines: the item that came next, or one of like popularity that the user has not met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from raypref.data.audit import wilson
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer

SHORTEST = 4  # tokens of a title that has halves
Z = 1.96


@dataclass(frozen=True)
class Share:
    """How often something was so, with Wilson's 95 % interval."""

    what: str
    share: float
    low: float
    high: float
    n: int
    chance: float

    @classmethod
    def of(cls, what: str, hits: np.ndarray, chance: float) -> Share:
        if not len(hits):
            return cls(what, float("nan"), float("nan"), float("nan"), 0, chance)
        share = float(hits.mean())
        return cls(what, share, *wilson(share, len(hits), Z), len(hits), chance)


def halves(titles: Sequence[Sequence[int]], rng: np.random.Generator) -> list[tuple[list[int], list[int], list[int]]]:
    """Of each title's tokens the first half, the second, and in its place another title's of as many tokens.

    Titles that are too short, and those of whose length there is no other, are left out.
    """
    seconds: dict[int, list[list[int]]] = {}
    cut = [(list(ids[: len(ids) // 2]), list(ids[len(ids) // 2 :])) for ids in titles if len(ids) >= SHORTEST]
    for _, second in cut:
        seconds.setdefault(len(second), []).append(second)
    found = []
    for first, second in cut:
        others = [other for other in seconds[len(second)] if other != second]
        if others:
            found.append((first, second, others[int(rng.integers(len(others)))]))
    return found


@torch.no_grad()
def titles_known(
    model: Any, tokenizer: PreTrainedTokenizerBase, titles: Sequence[str], domain: str, most: int, seed: int = 0
) -> list[Share]:
    """How often a title's own second half is likelier than a made-up one, and how often it is said word by word.

    Args:
        domain: what stands before a title (movie: ...). most: of so many titles, drawn by `seed`.
    """
    rng = np.random.default_rng(seed)
    drawn = [str(titles[i]) for i in rng.permutation(len(titles))]
    (before,) = encode_prompts(tokenizer, [f"The title of a {domain}:\n"])
    likelier, said = [], []
    for first, second, other in halves(encode_titles(tokenizer, drawn), rng)[:most]:
        start = [*before, *first]
        rows = torch.tensor([start + second, start + other], device=model.device)
        logps = model(rows).logits[:, len(start) - 1 : -1].float().log_softmax(-1)
        own, made_up = logps.gather(2, rows[:, len(start) :, None]).sum((1, 2)).tolist()
        likelier.append(own > made_up)
        said.append(bool((logps[0].argmax(-1) == rows[0, len(start) :]).all()))
    return [
        Share.of("a title's own second half is likelier than a made-up one", np.array(likelier), 0.5),
        Share.of("a title is completed word by word", np.array(said), 0.0),
    ]


@torch.no_grad()
def histories_known(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    titles: Sequence[str],
    examples: Sequence[dict[str, Any]],
    counts: np.ndarray,
) -> Share:
    """How often the item that came next is likelier after the history than one of like popularity.

    Args:
        examples: rows of prepare's table: history, candidates, target. counts: (items,) training interactions.
    """
    scorer, hits = TitleScorer(model.eval()), []
    for row in examples:
        target = row["candidates"][row["target"]]
        others = [item for item in row["candidates"] if item != target and item not in row["history"]]
        matched = min(others, key=lambda item: abs(np.log1p(counts[item]) - np.log1p(counts[target])))
        (prompt,) = encode_prompts(tokenizer, ["".join(f"{titles[item]}\n" for item in row["history"])])
        (end,) = encode_titles(tokenizer, ["\n"])
        answers = [[*ids, end[0]] for ids in encode_titles(tokenizer, [str(titles[i]) for i in (target, matched)])]
        scores: Tensor = scorer(title_batch([prompt], [answers], tokenizer.pad_token_id).to(model.device))[0]
        hits.append(bool(scores[0] > scores[1]))
    return Share.of("the item that came next is likelier than one of like popularity", np.array(hits), 0.5)
