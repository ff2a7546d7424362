"""Exact resume: a training that was killed and goes on ends, bit for bit, where an undisturbed one ends.

One process and the torch engine by default; `pytest -m cluster` has DeepSpeed and two workers, in real processes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raypref.config.model import LoraConfig
from raypref.errors import UserError
from raypref.training.progress import POINTER
from tests.support.training_runs import (
    RESOURCES,
    Job,
    Killed,
    align,
    engine_for,
    furthest,
    lines,
    losses,
    published,
    run,
    spawn,
    spawn_until_one_dies,
    weights,
    with_,
)

METHODS = ("sdpo", "recpo", "napo", "eapo")
STEPS, KILLED_AT = 12, 8
EVERY = with_(RESOURCES, checkpoint_every=3)  # so the last checkpoint before the death is that of step 6
DROPOUT = LoraConfig(rank=4, dropout=0.3)


def job(method: str, resources: Any = EVERY, **settings: Any) -> Job:
    config = align(method, max_steps=STEPS, validations=4, keep="loss")
    return Job(config, resources, lora=DROPOUT, **settings)


def kill_and_resume(tmp_path: Path, method: str, harm: Callable[[Path], None] = lambda folder: None) -> dict[str, Any]:
    with pytest.raises(Killed):
        run(job(method, stop_at=KILLED_AT), tmp_path / "killed")
    harm(tmp_path / "killed")
    return run(job(method), tmp_path / "killed")


def state_of(folder: Path) -> dict[str, Any]:
    """Weights, optimizer and objective state after step 9, three steps before the end."""
    names = ("state", "objective")
    return {name: torch.load(folder / f"step-000009/{name}.pt", weights_only=True) for name in names}


def tensors(content: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by their path."""
    if isinstance(content, dict):
        return {k: v for key, value in content.items() for k, v in tensors(value, f"{name}/{key}").items()}
    if isinstance(content, list):
        return tensors(dict(enumerate(content)), name)
    return {name: content.tolist() if isinstance(content, torch.Tensor) else content}


def assert_same_end(a: Path, b: Path) -> None:
    for name in ("metrics.jsonl", "validation.jsonl"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert published(a).parent.name == published(b).parent.name
    assert published(a).read_bytes() == published(b).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_every_state_is_exact(tmp_path: Path, method: str) -> None:
    """Also the optimizer's moments and step, the examples each step sees, and the seed of its dropout."""
    seen: list[tuple[int, list[int]]] = []

    def watched(folder: str, given: Job) -> list[tuple[int, list[int]]]:
        seen.clear()
        engine = engine_for(given)
        score = engine.score

        def spy(batch: Any) -> Any:
            if torch.is_grad_enabled():
                seen.append((torch.initial_seed(), batch.input_ids.flatten().tolist()))
            return score(batch)

        engine.score = spy  # type: ignore[method-assign]
        run(given, tmp_path / folder, engine)
        return list(seen)

    whole = watched("whole", job(method))
    with pytest.raises(Killed):
        watched("killed", job(method, stop_at=KILLED_AT))
    again = watched("killed", job(method))
    assert again == whole[-len(again) :]
    assert len(again) == len(whole) * (STEPS - 6) // STEPS
    found, expected = tensors(state_of(tmp_path / "killed")), tensors(state_of(tmp_path / "whole"))
    assert found == expected
    assert any("exp_avg_sq" in name for name in expected)
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARMS: dict[str, tuple[int, Callable[[Path], None]]] = {
    "a bit of the last one": (3, lambda f: flip_a_bit(f / "step-000006/state.pt")),
    "the last one is cut short": (3, lambda f: os.truncate(f / "step-000006/state.pt", 1000)),
    "a file of the last one is gone": (3, lambda f: (f / "step-000006/objective.pt").unlink()),
    "a bit of both": (0, lambda f: [flip_a_bit(f / f"step-00000{i}/state.pt") for i in (3, 6)] and None),
    "the pointer": (0, lambda f: os.truncate(f / POINTER, 10)),
    "the log is cut short": (6, lambda f: os.truncate(f / "metrics.jsonl", (f / "metrics.jsonl").stat().st_size - 9)),
    "an unfinished checkpoint": (6, lambda f: (f / "step-000009").mkdir()),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_costs_no_more_than_time(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(job("recpo"), tmp_path / "whole")
    step, harmed = HARMS[harm]
    facts = kill_and_resume(tmp_path, "recpo", harmed)
    assert facts["resumed_at"] == ([step] if step else [])
    assert ("is damaged" in caplog.text) == (step < 6)
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_it_may_be_killed_again_and_again(tmp_path: Path) -> None:
    whole = run(job("napo"), tmp_path / "whole")
    for stop in (4, 4, 4):  # steps of each attempt: 0 to 4, 3 to 7, 6 to 10
        with pytest.raises(Killed):
            run(job("napo", stop_at=stop), tmp_path / "killed")
    last = run(job("napo"), tmp_path / "killed")
    assert last["resumed_at"] == [3, 6, 9]
    assert last["kept_step"] == whole["kept_step"]
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


def test_the_time_of_all_attempts_counts(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(job("sdpo", stop_at=KILLED_AT), tmp_path)
    pointer = json.loads((tmp_path / POINTER).read_text())
    pointer["checkpoints"][0]["seconds"] = 1000.0
    (tmp_path / POINTER).write_text(json.dumps(pointer))
    assert 1000 < run(job("sdpo"), tmp_path)["train_seconds"] < 1100


def test_another_engine_s_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(job("sdpo", stop_at=KILLED_AT), tmp_path)
    pointer = json.loads((tmp_path / POINTER).read_text())
    pointer["checkpoints"][0]["engine"] = "DeepSpeed ZeRO-2 on 4 worker(s)"
    (tmp_path / POINTER).write_text(json.dumps(pointer))
    with pytest.raises(UserError, match="begun with DeepSpeed ZeRO-2 on 4 ") as refused:
        run(job("sdpo"), tmp_path)
    assert refused.value.where == str(tmp_path)


def test_an_attempt_that_was_cut_off_writes_no_more(tmp_path: Path) -> None:
    """Another one has begun in its place while it lived on."""
    first = engine_for(job("sdpo"))
    inner, steps = first.step, 0

    def step(learning_rate: float) -> float:
        nonlocal steps
        steps += 1
        if steps == 5:
            run(job("sdpo"), tmp_path)
        return inner(learning_rate)

    first.step = step  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a later attempt has taken over"):
        run(job("sdpo"), tmp_path, first)
    run(job("sdpo"), tmp_path / "whole")
    assert_same_end(tmp_path, tmp_path / "whole")


@pytest.mark.cluster
@pytest.mark.parametrize("world", [1, 2])
def test_engines_and_groups_resume_bit_for_bit(tmp_path: Path, world: int) -> None:
    """sdpo, recpo, napo and eapo under torch, ZeRO 0 and ZeRO 2, in spawned processes."""
    engines = {"torch": with_(EVERY, micro_batch=2)}
    engines |= {f"zero{i}": with_(EVERY, micro_batch=2, engine="deepspeed", zero_stage=i) for i in (0, 2)}
    jobs: dict[str, Job] = {}
    for name in (names := [f"{method} {engine}" for method in METHODS for engine in engines]):
        method, engine = name.split()
        jobs[f"{name} whole"] = job(method, engines[engine])
        jobs[f"{name} dies"] = job(method, engines[engine], stop_at=KILLED_AT, scratch=f"{name} again")
        jobs[f"{name} again"] = job(method, engines[engine])
    spawn(world, jobs, tmp_path)
    for name in names:
        assert_same_end(tmp_path / f"{name} again", tmp_path / f"{name} whole")
        assert len(lines(tmp_path / f"{name} again/metrics.jsonl")) == STEPS
        pointer = json.loads((tmp_path / f"{name} again" / POINTER).read_text())
        assert pointer["checkpoints"][0]["resumed_at"] == [6]
        whole = json.loads((tmp_path / f"{name} whole" / POINTER).read_text())["checkpoints"][0]["files"]
        assert len(pointer["checkpoints"][0]["files"]) == len(whole)


@pytest.mark.cluster
@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])  # the batch of 8 does not divide among 3
def test_a_group_of_another_size_goes_on(tmp_path: Path, engine: str, before: int, after: int) -> None:
    """As an elastic group does: without dropout its losses are an undisturbed one's; in float64, its weights too."""
    double = engine == "torch"  # DeepSpeed reduces no float64
    resources = with_(EVERY, micro_batch=2, engine=engine, zero_stage=0)

    def given(method: str, **settings: Any) -> Job:
        return Job(align(method, max_steps=STEPS, keep="last"), resources, double=double, **settings)

    spawn(before, {f"{method} dies": given(method, stop_at=KILLED_AT, scratch=method) for method in METHODS}, tmp_path)
    both = {method: given(method) for method in METHODS} | {f"{method} whole": given(method) for method in METHODS}
    spawn(after, both, tmp_path)
    for method in METHODS:
        assert [row["step"] for row in lines(tmp_path / method / "metrics.jsonl")] == list(range(STEPS))
        assert json.loads((tmp_path / method / POINTER).read_text())["checkpoints"][0]["resumed_at"] == [6]
        assert losses(tmp_path / method) == pytest.approx(losses(tmp_path / f"{method} whole"), rel=1e-4)
        if double:
            # The loss is multiplied by the size of the group, which the average over workers undoes. Norms are
            # float32 in any model: twice a number rounds as the number does there, three times does not.
            near = 1e-9 if before != 3 else 1e-4
            assert furthest(weights(tmp_path / method), weights(tmp_path / f"{method} whole")) < near


@pytest.mark.cluster
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_of_two_is_killed_by_sigkill(tmp_path: Path, rank: int) -> None:
    zero2 = with_(EVERY, engine="deepspeed", zero_stage=2, micro_batch=4)
    spawn(2, {"whole": job("recpo", zero2)}, tmp_path)
    dies = job("recpo", zero2, stop_at=KILLED_AT, killed_rank=rank)
    died = spawn_until_one_dies(2, {"again": dies}, tmp_path)
    assert died[rank] == -signal.SIGKILL
    assert json.loads((tmp_path / "again" / POINTER).read_text())["checkpoints"][0]["step"] == 6
    spawn(2, {"again": job("recpo", zero2)}, tmp_path)
    assert_same_end(tmp_path / "again", tmp_path / "whole")
