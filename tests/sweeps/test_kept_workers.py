"""When a kept group of training workers is handed on, and when it is ended; without Ray (see test_trial_trainer.py)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError
from ray.train.v2._internal.execution.worker_group.state import WorkerGroupContext

from raypref.sweeps import kept_workers
from raypref.sweeps.kept_workers import Kept, keep, take, wanted_of

WANTED = (2, "as this")


class World:
    """What the groups of these tests see of Ray."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.draining: dict[str, int] = {}
        self.fault: Exception | None = None

    def answers(self, asked: list[Any], timeout: float) -> list[Any]:
        if self.fault is not None:
            raise self.fault
        return asked

    def group(self) -> Kept:
        def worker(node: str) -> Any:
            actor = SimpleNamespace(node=node, get_metadata=SimpleNamespace(remote=lambda: None))
            return SimpleNamespace(actor=actor, metadata=SimpleNamespace(node_id=node))

        handle: Any = SimpleNamespace(shutdown=lambda: self.ended.append("hold"))
        return Kept(WANTED, handle, [worker("a"), worker("b")])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    seen = World()
    monkeypatch.setattr(kept_workers.ray, "kill", lambda actor: seen.ended.append(actor.node))
    monkeypatch.setattr(kept_workers.ray, "get", seen.answers)
    monkeypatch.setattr(kept_workers, "_get_draining_nodes", lambda: seen.draining)
    monkeypatch.setattr(kept_workers, "_kept", [])
    monkeypatch.setattr(kept_workers, "KEEP_S", 0.2)
    return seen


ENDED = ["a", "b", "hold"]


def test_a_group_is_handed_on_once(world: World) -> None:
    group = world.group()
    keep(group)
    assert take(WANTED) is group
    assert take(WANTED) is None
    time.sleep(0.4)
    assert world.ended == []  # it is at work: nobody ends it for having waited


def test_a_group_that_nobody_takes_gives_its_resources_back(world: World) -> None:
    keep(world.group())
    deadline = time.monotonic() + 20
    while world.ended != ENDED and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.ended == ENDED
    assert take(WANTED) is None


def test_another_group_than_is_wanted_is_ended(world: World) -> None:
    keep(world.group())
    assert take((1, "as this")) is None
    assert world.ended == ENDED


@pytest.mark.parametrize("fault", [ActorDiedError(), GetTimeoutError()])
def test_a_group_that_does_not_answer_is_ended(world: World, fault: Exception) -> None:
    keep(world.group())
    world.fault = fault
    assert take(WANTED) is None
    assert world.ended == ENDED


def test_a_group_on_a_node_that_is_about_to_go_is_ended(world: World) -> None:
    world.draining = {"b": 0, "elsewhere": 0}
    keep(world.group())
    assert take(WANTED) is None
    assert world.ended == ENDED


def test_a_group_in_another_environment_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that grew beyond one node has its workers look out for a node's end; workers from before do not."""

    def context(workers: int = 2) -> WorkerGroupContext:
        return WorkerGroupContext("id", Any, workers, {"CPU": 1.0, "GPU": 0.5}, "PACK")  # type: ignore[arg-type]

    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    before = wanted_of(context())
    assert wanted_of(context()) == before != wanted_of(context(workers=1))
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1")
    assert wanted_of(context()) != before
