"""LLaRA's hybrid prompts: after each title of history and candidates the item's behavioural token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from transformers import AddedToken, PreTrainedTokenizerBase

from raypref.data.encoding import encode_prompts
from raypref.data.prompts import PromptRenderer
from raypref.data.splitting import LIKED
from raypref.data.tokens import TOKENS, ExampleTokenizer
from raypref.errors import UserError

MARK = "\x02"
"""Where a behavioural token stands: a control, so that no title holds it. The tokenizer's last token, so that item i is
token `len(tokenizer) + i`."""


def add_mark(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer know the mark.

    Raises:
        UserError: it can't tell the mark from special tokens, whose names are plain text in a title.
    """
    tokenizer.add_tokens([AddedToken(MARK, special=False, normalized=False)])
    if encode_prompts(tokenizer, [MARK])[0][-1:] != [tokenizer.convert_tokens_to_ids(MARK)]:
        raise UserError(
            "LLaRA's behavioural tokens need a fast tokenizer (tokenizer.json)",
            where=f"model.path = {tokenizer.name_or_path}",
            hint="take another model, or --model.kind scratch",
        )


class HybridTokenizer(ExampleTokenizer):
    """As `ExampleTokenizer`, with behavioural tokens in the prompts; titles to be scored have none."""

    beside = 1

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, renderer: PromptRenderer, titles: Sequence[str], max_tokens: int
    ) -> None:
        super().__init__(tokenizer, renderer, titles, max_tokens)
        self.titles = np.array([f"{title}{MARK}" for title in titles], dtype=object)
        self.mark, self.first = tokenizer.convert_tokens_to_ids(MARK), len(tokenizer)

    def __call__(self, examples: pa.Table, least: bool = False) -> pa.Table:
        tokens = super().__call__(examples, least)
        rows = examples.select(["history", "history_rating", "candidates"]).to_pylist()
        prompts = [self._filled(ids, row) for ids, row in zip(tokens["prompt_ids"].to_pylist(), rows)]
        content = {"example": tokens["example"], "prompt_ids": prompts, "title_ids": tokens["title_ids"]}
        return pa.table(content, schema=TOKENS)

    def _filled(self, ids: list[int], row: dict[str, list[float]]) -> list[int]:
        """The marks of a prompt become its items; a long prompt may have lost its oldest ones."""
        shown = row["history"]
        if self.renderer.config.items == "filtered":
            shown = [item for item, rating in zip(shown, row["history_rating"]) if not rating < LIKED]
        places = [i for i, token in enumerate(ids) if token == self.mark]
        items = [*shown, *row["candidates"]] if self.renderer.config.candidates == "listed" else shown
        filled = list(ids)
        for place, item in zip(places, items[len(items) - len(places) :], strict=True):
            filled[place] = self.first + int(item)
        return filled
