"""TALLRec's form of a question: would this user like this item? Yes or No (Bao et al., RecSys 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from raypref.config.data import PromptConfig
from raypref.config.training import TallrecConfig
from raypref.data.candidates import draws, keys
from raypref.data.chat_template import chat_frame
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.data.prompts import ANSWER, DOMAINS, history_lines
from raypref.errors import UserError

ANSWERS = ("Yes", "No")
BEFORE = (
    "Given the user's {title} {done}{rated} history, identify whether the user will like the target by answering Yes "
    "or No:"
)
ASK = "Whether the user will like to {do} this {title} next:"
QUESTIONS = pa.schema(
    [
        pa.field("example", pa.int64(), nullable=False),
        pa.field("prompt_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("title_ids", pa.list_(pa.list_(pa.int32())), nullable=False),  # of Yes and of No
        pa.field("target", pa.int32(), nullable=False),  # 0: Yes is right, 1: No is
    ]
)


class YesNo:
    """Makes one question of a history and one candidate.

    Departure from the paper: the history is one list with ratings, as in the other methods' prompts, instead of a liked
    and a disliked list.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, domain: str, titles: Sequence[str]
    ) -> None:
        """`titles`: of item 0, 1, ..."""
        self.tokenizer, self.config, self.titles = tokenizer, config, titles
        self.words = DOMAINS[domain]
        self.frame = chat_frame(tokenizer) if config.chat else None
        self.answers: list[list[int]] = encode_titles(tokenizer, ANSWERS)

    def text(self, history: Sequence[str], ratings: Sequence[float], candidate: str, drop: int = 0) -> str:
        """The question, up to and with `Answer:`; `drop`: how many of the oldest history lines to leave out."""
        words = {"title": self.words.title, "done": self.words.done, "do": self.words.do}
        lines, rated = history_lines(self.config, history, ratings)
        before, ask = BEFORE.format(rated=rated, **words), ASK.format(**words)
        return "\n".join([before, *lines[drop:], ask, candidate, ANSWER])

    def prompts(self, examples: pa.Table, chosen: np.ndarray) -> list[list[int]]:
        """(B * n) prompts as tokens: of each example (`schema.EXAMPLES`) its candidates number `chosen` (B, n)."""
        found = []
        for row, own in zip(examples.select(["history", "history_rating", "candidates"]).to_pylist(), chosen):
            history = [self.titles[item] for item in row["history"]]
            found += [self._tokens(history, row["history_rating"], self.titles[row["candidates"][c]]) for c in own]
        return found

    def _tokens(self, history: list[str], ratings: list[float], candidate: str) -> list[int]:
        ids: list[int] = []
        for drop in range(len(history) + 1):
            (ids,) = encode_prompts(self.tokenizer, [self.text(history, ratings, candidate, drop)], self.frame)
            if len(ids) <= self.config.max_tokens:
                return ids
        raise UserError(
            f"a question without history takes {len(ids)} tokens of {self.config.max_tokens}",
            where="prompt.max_tokens",
            hint="raise it",
        )

    def training(self, examples: pa.Table, config: TallrecConfig) -> pa.Table:
        """`QUESTIONS` to learn from: of each example its target, to be answered Yes, and other candidates, No.

        Raises:
            UserError: an example has too few candidates.
        """
        target, example = examples["target"].to_numpy(), examples["example"].to_numpy()
        width, count = len(examples["candidates"][0]), 1 + config.negatives
        if count > width:
            raise UserError(
                f"{config.negatives} negatives are wanted, but an example has {width - 1} candidates beside its target",
                where="tallrec.negatives",
                hint="take fewer",
            )
        order = draws(keys(config.seed, example, np.zeros_like(example)), np.arange(width)) >> np.uint64(1)
        order[np.arange(len(target)), target] = np.iinfo(np.uint64).max  # last, so that no negative is the target
        negatives = np.argsort(order, axis=1)[:, : config.negatives]
        content: dict[str, Any] = {
            "example": (example[:, None] * count + np.arange(count)).reshape(-1),
            "prompt_ids": self.prompts(examples, np.concatenate([target[:, None], negatives], axis=1)),
            "title_ids": [self.answers] * (len(target) * count),
            "target": np.tile(np.arange(count) > 0, len(target)).astype(np.int32),
        }
        return pa.table(content, schema=QUESTIONS)
