"""Cutting a global batch by tokens: every example once, within the budget, with little padding, the same gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from raypref.config.data import DataConfig, PromptConfig
from raypref.config.sources import GeneratedSource
from raypref.data.examples import ExampleBuilder
from raypref.data.prompts import PromptRenderer
from raypref.data.sources.generated import generate
from raypref.data.tokens import ExampleTokenizer
from raypref.models.layout import Rows, title_batch
from raypref.training.batches import Collator
from raypref.training.loop import compute_gradients
from raypref.training.micro import MicroBatches, by_tokens
from raypref.training.tasks import task_of
from tests.support.training_runs import (
    PAD,
    RESOURCES,
    SFT,
    TOKENIZER,
    Job,
    align,
    engine_for,
    losses,
    make_table,
    run,
    spawn,
    with_,
)

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40).map(np.array)


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 900), st.booleans(), st.integers(1, 5))
def test_every_example_comes_once_and_within_the_budget(
    lengths: np.ndarray, budget: int, packed: bool, parts: int
) -> None:
    parts = min(parts, len(lengths))
    found = by_tokens(lengths, budget, packed, parts)
    assert sorted(int(i) for part in found for i in part) == list(range(len(lengths)))
    assert len(found) >= parts
    assert all(len(part) for part in found)
    for part in found:
        taken = lengths[part].sum() if packed else lengths[part].max() * len(part)
        assert taken <= max(budget, lengths.max())


def test_parts_are_no_more_than_they_need_be() -> None:
    lengths = np.array([100] * 12)
    assert len(by_tokens(lengths, 400, packed=True)) == len(by_tokens(lengths, 400, packed=False)) == 3
    assert len(by_tokens(lengths, 400, packed=True, parts=5)) == 5


def test_those_of_like_length_come_together() -> None:
    lengths = np.array([10, 100, 11, 99, 12, 98])
    short = [sorted(lengths[part].tolist()) for part in by_tokens(lengths, 300, packed=False)]
    assert short == [[98, 99, 100], [10, 11, 12]]


def test_padding_of_generated_data_is_under_five_percent() -> None:
    """Prompts of the default kind of data, a global batch of 128 and 4,096 tokens at a time."""
    config = DataConfig(source=GeneratedSource(users=120, items=150), max_train_examples_per_user=4)
    log = generate(config.source)  # type: ignore[arg-type]
    examples = next(iter(ExampleBuilder(log, config).shards("train"))).slice(0, 128)
    render = PromptRenderer(PromptConfig(), "movie", True)
    tokenize = ExampleTokenizer(TOKENIZER, render, log.items["title"].to_pylist(), 10_000)
    table = tokenize(examples).append_column("target", examples["target"])
    assert table.num_rows == 128
    padding = {}
    for packed in (True, False):
        collator = Collator(3, 0, PAD, Rows(packed))
        parts = by_tokens(collator.lengths(table, 0), 8 * 4096, packed)
        batches = [collator(table.take(part), 0).titles for part in parts]
        assert len(batches) > 2
        tokens, laid = sum(b.tokens for b in batches), sum(b.input_ids.numel() for b in batches)
        assert tokens == collator.lengths(table, 0).sum()
        padding[packed] = 1 - tokens / laid
    assert padding[True] == 0
    assert padding[False] < 0.05


def test_rows_are_padded_to_a_multiple() -> None:
    batch = title_batch([[5, 6], [7]], [[[8, 1]], [[9, 9, 1]]], PAD, Rows(packed=True, multiple=8))
    assert batch.input_ids.tolist() == [[5, 6, 8, 7, 9, 9, PAD, PAD]]
    assert batch.begins.tolist() == [[0, 0, 0, 3, 3, 3, 6, 6]]
    assert batch.prompt_ends.tolist() == [[2, 2, 2, 4, 4, 4, 6, 6]]
    assert batch.title_begins.tolist() == [[0, 0, 2, 3, 4, 4, 6, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 2, 0, 0]]
    assert batch.padding == 0.25


@pytest.mark.parametrize("objective", ["sft", "recpo", "napo", "beta-dpo"])
@pytest.mark.parametrize("cut", [{"micro_tokens": 60}, {"micro_tokens": 60, "packing": False}, {"micro_batch": 3}])
def test_the_gradient_is_that_of_the_undivided_batch(objective: str, cut: dict[str, Any]) -> None:
    """In float64, against one micro-batch under a dense mask. beta-dpo draws by the order of the batch."""
    parameters = {"filter_share": 0.3} if objective == "beta-dpo" else {}
    config = SFT if objective == "sft" else align(objective, parameters=parameters)
    whole = with_(RESOURCES, micro_batch=100, packing=False, attention="dense")
    gradients, found, parts = [], [], []
    for resources in (whole, with_(RESOURCES, **cut)):
        engine = engine_for(Job(config, resources, double=True))
        task = task_of(config)
        collator = Collator(task.negatives, 0, PAD, engine.scorer.rows(resources.packing))
        micro = MicroBatches(resources.micro_batch, resources.micro_tokens)
        table = make_table(10)
        parts.append(len(micro(table, 0, collator, engine)))
        found.append(compute_gradients(engine, task, table, 0, collator, micro, 0).means()["loss"])
        gradients.append({name: p.grad for name, p in engine.trained().items()})  # type: ignore[attr-defined]
    assert parts[0] == 1 < parts[1]
    assert found[1] == pytest.approx(found[0], rel=1e-10)
    for name, expected in gradients[0].items():
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_workers_run_equally_many_parts(tmp_path: Path) -> None:
    """Two workers under ZeRO-2, whose own shares would need different numbers of parts, against one worker."""
    config = with_(align("sdpo"), max_steps=8)
    job = Job(config, with_(RESOURCES, engine="deepspeed", zero_stage=2, micro_tokens=70))
    spawn(2, {"two": job}, tmp_path)
    run(Job(config, RESOURCES), tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
