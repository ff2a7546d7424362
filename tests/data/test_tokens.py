"""Token tables against the tokenizer's own public call."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raypref.config.data import PromptConfig
from raypref.config.model import PretrainedModel
from raypref.data.prompts import PromptRenderer
from raypref.data.tokens import ExampleTokenizer
from raypref.errors import UserError
from raypref.models.backbone import load_tokenizer
from raypref.models.folders import local_folder

TITLES = ["Crimson Harbor", "Ünïcode: 東京物語", "A", "Golden Puppy (1995)", "Crimson Harbor II"]
TOKENIZER = load_tokenizer(local_folder(PretrainedModel(path="raypref-tiny", lora=None)) or "")
RENDER = PromptRenderer(PromptConfig(), "movie", True)


def examples(rows: int) -> pa.Table:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 9, rows)
    return pa.table(
        {
            "example": np.arange(rows),
            "history": pa.array([rng.integers(0, 5, n) for n in lengths], pa.list_(pa.int32())),
            "history_rating": pa.array([rng.integers(1, 6, n) for n in lengths], pa.list_(pa.float32())),
            "candidates": pa.array([rng.permutation(5)[: 3 + i % 3] for i in range(rows)], pa.list_(pa.int32())),
        }
    )


def prompt(row: dict[str, list[int]], drop: int = 0) -> str:
    history, candidates = ([TITLES[i] for i in row[name]] for name in ("history", "candidates"))
    return RENDER(row["example"], history, row["history_rating"], candidates, drop)  # type: ignore[arg-type]


@pytest.mark.parametrize("table", [examples(12), examples(12).slice(5, 4)], ids=["whole", "slice"])
def test_prompts_and_titles_are_what_the_tokenizer_gives(table: pa.Table) -> None:
    TOKENIZER.backend_tokenizer.enable_truncation(3)  # whoever used it before
    tokens = ExampleTokenizer(TOKENIZER, RENDER, TITLES, 1024)(table).to_pylist()
    assert [row["example"] for row in tokens] == table["example"].to_pylist()
    for row, example in zip(tokens, table.to_pylist()):
        assert row["prompt_ids"] == TOKENIZER(prompt(example))["input_ids"]
        expected = [TOKENIZER(TITLES[i], add_special_tokens=False)["input_ids"] for i in example["candidates"]]
        assert row["title_ids"] == [[*ids, TOKENIZER.eos_token_id] for ids in expected]


def test_a_long_prompt_loses_its_oldest_lines() -> None:
    table = examples(12)
    whole = [len(TOKENIZER(prompt(row))["input_ids"]) for row in table.to_pylist()]
    limit = sorted(whole)[6]
    for ids, row, length in zip(
        ExampleTokenizer(TOKENIZER, RENDER, TITLES, limit)(table)["prompt_ids"].to_pylist(), table.to_pylist(), whole
    ):
        dropped = [drop for drop in range(9) if TOKENIZER(prompt(row, drop))["input_ids"] == ids]
        assert len(ids) <= limit
        assert dropped
        assert (dropped[0] == 0) == (length <= limit)
        assert dropped[0] == 0 or len(TOKENIZER(prompt(row, dropped[0] - 1))["input_ids"]) > limit


def test_candidates_that_alone_are_too_long_are_an_error() -> None:
    with pytest.raises(UserError, match="the candidates alone take"):
        ExampleTokenizer(TOKENIZER, RENDER, TITLES, 20)(examples(3))


def test_a_prompt_speaks_of_ratings_only_where_it_shows_them() -> None:
    nan = float("nan")
    rated = RENDER(0, TITLES[:2], [nan, 5], TITLES[2:])
    unrated = RENDER(0, TITLES[:2], [nan, nan], TITLES[2:])
    assert "viewing and rating records" in rated
    assert rated.splitlines()[1:3] == [TITLES[0], f"{TITLES[1]} | Rating: 5"]
    assert "viewing records" in unrated
    assert unrated.splitlines()[1:3] == TITLES[:2]
