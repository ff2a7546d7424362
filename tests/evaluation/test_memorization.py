"""The probe finds what a planted model has read, and nothing in one that has read nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from raypref.data.encoding import encode_prompts, encode_titles
from raypref.evaluation import memorization
from raypref.evaluation.memorization import halves, histories_known, titles_known
from raypref.models import backbone

WORDS = "red blue green tall small old new cold warm dark".split()
TITLES = [f"{a} {b} {c} {d}" for a, b, c, d in np.random.default_rng(0).choice(WORDS, (40, 4)).tolist()]
TOKENIZER = backbone.train_tokenizer([f"{title}\n" for title in TITLES], 400)
HISTORIES = [[i, i + 1, i + 2] for i in range(36)]
NEXT = [i + 3 for i in range(36)]


class Planted:
    """Says what it has read after each beginning that it knows; after any other it guesses."""

    device = torch.device("cpu")

    def __init__(self, read: list[list[int]], seed: int = 1) -> None:
        self.next = {tuple(ids[:i]): ids[i] for ids in read for i in range(1, len(ids))}
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, rows: Tensor) -> Any:
        logits = torch.randn((*rows.shape, len(TOKENIZER)), generator=self.random)
        for row, out in zip(rows.tolist(), logits):
            for i in range(len(row)):
                if (token := self.next.get(tuple(row[: i + 1]))) is not None:
                    out[i, token] += 30
        return type("Output", (), {"logits": logits})

    def eval(self) -> Planted:
        return self


class Reader:
    """In the scorer's place: which of two titles comes next in what `model` has read."""

    seen: ClassVar[list[list[list[int]]]] = []

    def __init__(self, model: Planted) -> None:
        self.model = model

    def __call__(self, batch: Any) -> Tensor:
        ids = batch.input_ids[0, : batch.spans[0].titles].tolist()
        rows = [batch.label[batch.title == number].tolist() for number in (0, 1)]
        self.seen.append(rows)
        guessed = torch.rand((1, 2), generator=self.model.random)
        return guessed + torch.tensor([[2.0 * (self.model.next.get(tuple(ids)) == row[0]) for row in rows]])


def test_halves_are_matched_in_length() -> None:
    cut = halves([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], [1, 2, 3, 4, 5, 6, 7, 8, 9]], np.random.default_rng(0))
    assert cut == [([1, 2], [3, 4], [7, 8]), ([5, 6], [7, 8], [3, 4])]  # too short, and alone in its length: left out


def test_titles_that_were_read_are_found() -> None:
    (before,) = encode_prompts(TOKENIZER, ["The title of a movie:\n"])
    read = Planted([[*before, *ids] for ids in encode_titles(TOKENIZER, TITLES)])
    known, said = titles_known(read, TOKENIZER, TITLES, "movie", 40)
    assert known.low > 0.7
    assert said.low > 0.5
    unknown, said = titles_known(Planted([]), TOKENIZER, TITLES, "movie", 40)
    assert unknown.low < 0.5 < unknown.high
    assert said.share == 0


def test_histories_that_were_read_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorization, "TitleScorer", Reader)
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 500, 40)
    examples = [
        {"history": history, "candidates": [after, *rng.choice(40, 8, replace=False).tolist()], "target": 0}
        for history, after in zip(HISTORIES, NEXT)
    ]
    texts = ["".join(f"{TITLES[i]}\n" for i in history) for history in HISTORIES]
    answers = encode_titles(TOKENIZER, [TITLES[after] for after in NEXT])
    read = Planted([[*ids, *own] for ids, own in zip(encode_prompts(TOKENIZER, texts), answers)])
    Reader.seen = []
    assert histories_known(read, TOKENIZER, TITLES, examples, counts).low > 0.6
    for rows, row in zip(Reader.seen, examples):  # the other one is as popular as any that could be had
        others = [i for i in row["candidates"] if i not in (*row["history"], row["candidates"][0])]
        nearest = min(others, key=lambda i: abs(np.log1p(counts[i]) - np.log1p(counts[row["candidates"][0]])))
        assert rows[1][:-1] == encode_titles(TOKENIZER, [TITLES[nearest]])[0]
    unread = [histories_known(Planted([], seed), TOKENIZER, TITLES, examples, counts) for seed in range(20)]
    assert {found.n for found in unread} == {len(HISTORIES)}
    spread = 0.5 / (20 * len(HISTORIES)) ** 0.5
    assert abs(np.mean([found.share for found in unread]) - 0.5) < 4 * spread  # four standard errors of a coin's
