"""The loop: accumulation, resuming, what is kept, divergence. One process, torch engine."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from raypref.config.model import LoraConfig
from raypref.config.training import TrainingConfig
from raypref.errors import UserError
from raypref.models import backbone
from raypref.training.loop import Diverged, learning_rate, planned_steps
from tests.support.training_runs import (
    RESOURCES,
    SFT,
    Job,
    Killed,
    align,
    engine_for,
    furthest,
    lines,
    published,
    run,
    weights,
    with_,
)

OBJECTIVES = {
    "sft": SFT,
    "sdpo": align("sdpo"),
    "recpo": align("recpo"),
    "napo": align("napo"),
    "eapo": align("eapo"),
    "beta-dpo": align("beta-dpo"),
    "alpha-dpo": align("alpha-dpo"),
    "dynamicpo": align("dynamicpo"),
    "list-pg": align("list-pg", negatives=5),
    "mixture": align("napo", objectives={"napo": 1.0, "sdpo": 0.5, "sft": 0.1}),
    "self-play": align("sdpo", negatives_by="self-play", negatives_share=0.7),
    "ema": align("sdpo", reference_update="ema", reference_decay=0.8),
    "replace": align("recpo", reference_update="replace", reference_every=4),
}
WITH_STATE = ("napo", "beta-dpo", "alpha-dpo", "mixture", "ema", "replace")
OF_THE_ATTEMPT = ("train_seconds", "began", "resumed_at", "state")
BY_ONE = with_(RESOURCES, micro_batch=1)


@pytest.mark.parametrize("name", ["sft", "sdpo", "napo", "mixture", "self-play", "ema"])
@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_add_up_to_the_whole_batch(tmp_path: Path, name: str, micro: int) -> None:
    config = with_(OBJECTIVES[name], max_steps=5)
    whole = run(Job(config, double=True), tmp_path / "whole")
    parts = run(Job(config, with_(RESOURCES, micro_batch=micro), double=True), tmp_path / "parts")
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    assert furthest(weights(tmp_path / "parts"), weights(tmp_path / "whole")) < 1e-6
    backbone.save(engine_for(Job(config, double=True)).model, tmp_path / "start/kept-000000")  # type: ignore[attr-defined]
    assert furthest(weights(tmp_path / "start"), weights(tmp_path / "whole")) > 1e-3  # so that equality says something


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    config = with_(OBJECTIVES[name], max_steps=12, validations=4, keep="loss")
    resources = with_(BY_ONE if name in ("napo", "mixture") else RESOURCES, checkpoint_every=3)
    whole = run(Job(config, resources), tmp_path / "whole")
    with pytest.raises(Killed):
        run(Job(config, resources, stop_at=8), tmp_path / "killed")
    assert len(lines(tmp_path / "killed/metrics.jsonl")) == 8
    resumed = run(Job(config, resources), tmp_path / "killed")
    assert same_files(tmp_path / "whole", tmp_path / "killed")
    assert (whole["resumed_at"], resumed["resumed_at"]) == ([], [6])
    assert {k: v for k, v in resumed.items() if k not in OF_THE_ATTEMPT} == {
        k: v for k, v in whole.items() if k not in OF_THE_ATTEMPT
    }
    assert {k: v.tolist() for k, v in resumed["state"].items()} == {k: v.tolist() for k, v in whole["state"].items()}
    assert bool(whole["state"]) == (name in WITH_STATE)


@pytest.mark.parametrize("stop", range(1, 8))
def test_wherever_it_is_killed_the_best_weights_are_published(tmp_path: Path, stop: int) -> None:
    """Validation at steps 2, 4, 6, 8, checkpoints at the same steps; a planted loss that is best at the first."""
    config = with_(SFT, max_steps=8, validations=4, keep="loss")
    resources = with_(RESOURCES, checkpoint_every=2)
    start = engine_for(Job(config)).trained()  # type: ignore[attr-defined]

    def way_from_start(engine: Any, task: Any) -> dict[str, float]:
        return {"loss": sum(float((p - start[n]).abs().sum()) for n, p in engine.trained().items())}

    whole = run(Job(config, resources), tmp_path / "whole", validator=way_from_start)
    assert whole["kept_step"] == 2
    with pytest.raises(Killed):
        run(Job(config, resources, stop_at=stop), tmp_path / "killed", validator=way_from_start)
    resumed = run(Job(config, resources), tmp_path / "killed", validator=way_from_start)
    assert resumed["kept_step"] == whole["kept_step"]
    assert same_files(tmp_path / "whole", tmp_path / "killed")


def same_files(a: Path, b: Path) -> bool:
    names = ["metrics.jsonl", "validation.jsonl"]
    alike = all((a / name).read_bytes() == (b / name).read_bytes() for name in names)
    return alike and published(a).read_bytes() == published(b).read_bytes()


def test_dropout_is_the_same_after_a_resume(tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, dropout=0.3)
    config = with_(SFT, max_steps=6, learning_rate=0.05)
    resources = with_(RESOURCES, checkpoint_every=2, micro_batch=4)
    whole = run(Job(config, resources, lora=lora), tmp_path / "whole")
    with pytest.raises(Killed):
        run(Job(config, resources, lora=lora, stop_at=5), tmp_path / "killed")
    assert run(Job(config, resources, lora=lora), tmp_path / "killed")["losses"] == whole["losses"]
    assert furthest(weights(tmp_path / "killed"), weights(tmp_path / "whole")) == 0
    still = with_(config, seed=4)
    assert run(Job(still, resources, lora=lora), tmp_path / "other")["losses"] != whole["losses"]


@pytest.mark.parametrize("keep", ["loss", "hr@1", "last"])
def test_the_weights_that_were_asked_for_are_published(tmp_path: Path, keep: str) -> None:
    config = with_(SFT, max_steps=8, validations=8, keep=keep, learning_rate=0.1)
    seen: list[dict[str, torch.Tensor]] = []
    job = Job(config)
    engine = engine_for(job)

    def remember(training: bool) -> None:
        if not training:  # the loop turns dropout off just before it validates
            seen.append({n: p.detach().clone() for n, p in engine.trained().items()})  # type: ignore[attr-defined]

    engine.train = remember  # type: ignore[method-assign]
    facts = run(job, tmp_path, engine)
    validations = lines(tmp_path / "validation.jsonl")
    assert [row["step"] for row in validations] == list(range(8))
    assert len({row["loss"] for row in validations}) == 8
    best = {
        "loss": min(range(8), key=lambda i: validations[i]["loss"]),
        "hr@1": max(range(8), key=lambda i: validations[i]["hr@1"]),
        "last": 7,
    }[keep]
    assert facts["kept_step"] == best + 1
    assert facts["validation"] == {k: v for k, v in validations[best].items() if k != "step"}
    published = weights(tmp_path)
    assert all(torch.equal(published[name], seen[best][name]) for name in published)
    assert keep == "last" or best != 7  # else the choice would not show


def test_without_validation_the_last_weights_are_published(tmp_path: Path) -> None:
    facts = run(Job(with_(SFT, max_steps=2, keep="loss")), tmp_path)
    assert facts["kept_step"] == 2
    assert facts["validation"] == {}


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    job = Job(with_(SFT, max_steps=4))
    engine = engine_for(job)
    with torch.no_grad():
        next(iter(engine.trained().values())).fill_(math.nan)  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match="training diverged at step 0: loss nan") as caught:
        run(job, tmp_path, engine)
    assert "learning rate" in caught.value.hint
    assert not list(tmp_path.glob("kept-*"))
    copy = pickle.loads(pickle.dumps(caught.value))  # how it travels between Ray's processes
    assert isinstance(copy, UserError)
    assert str(copy) == str(caught.value)


def test_the_loop_says_what_it_does(tmp_path: Path) -> None:
    config = with_(align("sdpo"), max_steps=10, validations=2)
    reports: list[dict[str, Any]] = []
    run(Job(config), tmp_path)
    rows = lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(10))
    assert [row["epoch"] for row in rows] == [0] * 8 + [1] * 2
    assert [row["lr"] for row in rows] == [learning_rate(config, step, 10) for step in range(10)]
    assert all(row["grad_norm"] > 0 for row in rows)
    assert [row["step"] for row in lines(tmp_path / "validation.jsonl")] == [4, 9]
    assert not reports


def test_learning_rate_rises_then_falls() -> None:
    config = TrainingConfig(learning_rate=2.0, warmup=0.25)
    rates = [learning_rate(config, step, 8) for step in range(8)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert rates[5] == pytest.approx(1.0)  # half-way down the cosine: steps 2 to 8
    assert rates[7] == pytest.approx(1 + math.cos(math.pi * 5 / 6))
    assert learning_rate(with_(config, warmup=0.0), 0, 8) == 2.0


@pytest.mark.parametrize(
    ("settings", "examples", "steps"),
    [
        ({"global_batch": 8, "epochs": 3}, 64, 24),
        ({"global_batch": 8, "epochs": 3}, 71, 24),
        ({"global_batch": 8, "epochs": 0.5}, 64, 4),
        ({"global_batch": 8, "epochs": 0.01}, 64, 1),
        ({"global_batch": 8, "epochs": 3, "max_steps": 5}, 64, 5),
    ],
)
def test_planned_steps(settings: dict[str, Any], examples: int, steps: int) -> None:
    assert planned_steps(TrainingConfig(**settings), examples) == steps


def test_a_batch_greater_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="a global batch of 8 is more than the 7 training examples"):
        planned_steps(TrainingConfig(global_batch=8), 7)
