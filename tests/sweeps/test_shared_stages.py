"""Who may have the workers of the last stage before the trials; without Ray (see test_trial_trainer.py)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from raypref.errors import UserError
from raypref.store import Store
from raypref.sweeps import shared_stages, tuning
from raypref.sweeps.kept_workers import Kept
from raypref.sweeps.shared_stages import SharedStages
from raypref.sweeps.tuning import TAKES, _end_unless_taken, _trial


def order(folder: Path, takes: bool) -> Path:
    path = folder / "sweep" / "orders" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({TAKES: takes, "record": {"label": "a"}, "config": {}, "asked": 0.0}))
    return path


def group(ended: list[str]) -> Kept:
    handle: Any = SimpleNamespace(shutdown=lambda: ended.append("hold"))
    return Kept((), handle, [])


@pytest.mark.parametrize(("takes", "left"), [(True, ["hold"]), (False, [])])
def test_workers_that_the_trial_did_not_take_are_ended(tmp_path: Path, takes: bool, left: list[str]) -> None:
    ended: list[str] = []
    _end_unless_taken(group(ended), order(tmp_path, takes))
    assert ended == left


def test_a_trial_takes_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process may die and be started again: then the workers are of the dead one, and maybe at work."""
    taken: list[Kept] = []
    monkeypatch.setattr(tuning, "keep", taken.append)
    path, mine = order(tmp_path, takes=True), group([])
    for _ in range(2):
        _trial({"trial": "a"}, "sweep", str(tmp_path), mine)  # fails at once: the order says no more
    assert taken == [mine]
    assert json.loads(path.read_text())[TAKES] is False


def test_a_users_error_comes_through_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = UserError("too long", where="here", mend="cut it")

    def get(_: Any) -> None:
        raise RayTaskError("fit", "traceback", said)

    actor = SimpleNamespace(remote=lambda: SimpleNamespace(fit=SimpleNamespace(remote=lambda *arguments: None)))
    monkeypatch.setattr(ray, "remote", lambda **options: lambda kind: actor)
    monkeypatch.setattr(shared_stages.ray, "get", get)
    nothing: Any = None
    with pytest.raises(UserError, match="too long"):
        SharedStages().fit(nothing, [], Store(tmp_path), "name")


def test_where_nothing_was_trained_there_is_nothing_to_give() -> None:
    mine = SharedStages()
    mine.release()
    assert mine.give() is None


def test_a_runner_that_died_stops_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before each trial: its workers ended with it, so there is nothing to release."""
    asked: list[str] = []

    def get(_: Any) -> None:
        asked.append("once")
        raise ActorDiedError

    call = SimpleNamespace(remote=lambda *arguments: None)
    actor = SimpleNamespace(remote=lambda: SimpleNamespace(fit=call, give=call, release=call))
    monkeypatch.setattr(ray, "remote", lambda **options: lambda kind: actor)
    monkeypatch.setattr(shared_stages.ray, "get", lambda _: None)
    mine, nothing = SharedStages(), cast(Any, None)
    mine.fit(nothing, [], Store("."), "name")
    monkeypatch.setattr(shared_stages.ray, "get", get)
    mine.release()
    mine.release()
    assert mine.give() is None
    assert asked == ["once"]
