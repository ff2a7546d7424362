"""From text to token ids: one prompt and all candidate titles of each example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from raypref.data.chat_template import chat_frame
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.data.prompts import PromptRenderer
from raypref.errors import UserError

TOKENS = pa.schema(
    [
        pa.field("example", pa.int64(), nullable=False),
        pa.field("prompt_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("title_ids", pa.list_(pa.list_(pa.int32())), nullable=False),  # of each candidate, with the end token
    ]
)


class ExampleTokenizer:
    """Tokenizes tables of examples; titles are tokenized once, when it is made."""

    beside = 0
    """Tokens that stand beside a title in a prompt."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, renderer: PromptRenderer, titles: Sequence[str], max_tokens: int
    ) -> None:
        """`titles`: of item 0, 1, ...; `max_tokens`: longer prompts lose their oldest history lines."""
        self.frame = chat_frame(tokenizer) if renderer.config.chat else None
        self.tokenizer, self.renderer, self.max_tokens = tokenizer, renderer, max_tokens
        self.plain_titles = self.titles = np.array(titles, dtype=object)
        encoded = encode_titles(tokenizer, titles)
        self.title_ids = pa.array([[*ids, tokenizer.eos_token_id] for ids in encoded], pa.list_(pa.int32()))

    def __call__(self, examples: pa.Table, least: bool = False) -> pa.Table:
        """`schema.EXAMPLES` in, `TOKENS` out, row for row; `least`: the prompts ask for the least fitting item."""
        rows = self._rows(examples)
        prompts = self.encode([self.renderer(*row, least=least) for row in rows])
        for i, ids in enumerate(prompts):
            if len(ids) > self.max_tokens:
                prompts[i] = self._shortened(rows[i], least)
        candidates = examples["candidates"].combine_chunks()
        offsets = candidates.offsets.to_numpy()
        titles = pa.ListArray.from_arrays(
            pa.array(offsets - offsets[0]),
            self.title_ids.take(candidates.flatten()),
            type=TOKENS.field("title_ids").type,
        )
        return pa.table({"example": examples["example"], "prompt_ids": prompts, "title_ids": titles}, schema=TOKENS)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of prompts, as the model reads them."""
        return encode_prompts(self.tokenizer, texts, self.frame)

    def lengths(self, example: pa.Table, least: bool = False) -> tuple[int, int]:
        """Tokens of one example's prompt, without any history, and with as much of it as there is room for."""
        (row,) = self._rows(example)
        bare, whole = self.encode([self.renderer(*row, drop=drop, least=least) for drop in (len(row[1]), 0)])
        return len(bare), len(whole) if len(whole) <= self.max_tokens else max(len(bare), self.max_tokens)

    def _rows(self, examples: pa.Table) -> list[tuple[int, Sequence[str], Sequence[float], Sequence[str]]]:
        return list(
            zip(
                examples["example"].to_pylist(),
                [self.titles[h] for h in examples["history"].to_pylist()],
                examples["history_rating"].to_pylist(),
                [self.titles[c] for c in examples["candidates"].to_pylist()],
            )
        )

    def _shortened(self, row: tuple[int, Sequence[str], Sequence[float], Sequence[str]], least: bool) -> list[int]:
        for drop in range(1, len(row[1]) + 1):
            (ids,) = self.encode([self.renderer(*row, drop=drop, least=least)])
            if len(ids) <= self.max_tokens:
                return ids
        raise UserError(
            f"the candidates alone take {len(ids)} tokens of a prompt that may have {self.max_tokens}",
            where="prompt.max_tokens",
            hint="raise it, or draw fewer candidates",
        )
