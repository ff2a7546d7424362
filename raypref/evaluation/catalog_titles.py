"""A language model's part in ranking the whole catalog, and in generation that says nothing but titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import DynamicCache

from raypref.data.tokens import ExampleTokenizer
from raypref.evaluation.constrained import Said, constrained_answers
from raypref.evaluation.top_titles import Top, top_titles
from raypref.models.layout import title_batch
from raypref.models.prompt_cache import prompt_cache
from raypref.models.scoring import TitleScorer
from raypref.models.title_trie import TitleTrie
from raypref.models.tree_pass import title_logps


@dataclass(frozen=True)
class Prompts:
    """Prompts as tokens, and their keys and values."""

    ids: list[list[int]]
    cache: Callable[[], DynamicCache]
    """Gives the keys and values (`prompt_cache`), anew each time: a pass over a trie writes to them."""


class CatalogTitles:
    """Asks a language model about all titles at once, after prompts that list no candidates."""

    def __init__(self, items: np.ndarray, tokenize: ExampleTokenizer, end: int, pad: int) -> None:
        """`items`: (M,) codes of those whose titles may be answers. `tokenize`: makes prompts without a list."""
        self.items, self.tokenize, self.pad = items, tokenize, pad
        titles = tokenize.title_ids.take(pa.array(items)).to_pylist()
        self.trie, self.end = TitleTrie.of(titles, end), end

    @torch.no_grad()
    def prompts(self, scorer: TitleScorer, part: pa.Table) -> Prompts:
        """The prompts of examples (columns of prepare), read once."""
        ids = self.tokenize(part)["prompt_ids"].to_pylist()
        batch = title_batch(ids, [[[self.end]]] * len(ids), self.pad, scorer.rows())
        cache = DynamicCache()
        scorer(batch.to(scorer.causal_lm().device), cache)
        return Prompts(ids, lambda: prompt_cache(cache, batch))

    def logps(self, scorer: TitleScorer, prompts: Prompts) -> np.ndarray:
        """(B, M) log-probs of all titles."""
        found: np.ndarray = title_logps(scorer, self.trie, prompts.cache(), prompts.ids).float().cpu().numpy()
        return found

    def top(self, scorer: TitleScorer, prompts: Prompts, k: int) -> Top:
        """The k likeliest titles, by their numbers among the items."""
        return top_titles(scorer, self.trie, prompts.cache(), prompts.ids, k)

    def said(self, scorer: TitleScorer, prompts: Prompts, beams: int) -> Said:
        """What can be said of the catalog's titles alone."""
        roots = np.repeat(self.trie.roots, len(prompts.ids))
        return constrained_answers(scorer, self.trie, roots, prompts.cache(), prompts.ids, beams)


def said_columns(items: Sequence[np.ndarray], greedy: Said, beams: Said | None = None) -> dict[str, list[Any]]:
    """`SAID_ROWS` of what was said; `items`: of each example the item of each title that could be."""
    columns = {
        "said_item": [int(own[title]) for own, title in zip(items, greedy.title[:, 0])],
        "said_inside": greedy.inside[:, 0].tolist(),
        "said_beams": [None] * len(items),
    }
    if beams is not None:
        columns["said_beams"] = [own[row[row >= 0]].tolist() for own, row in zip(items, beams.title)]
    return columns
