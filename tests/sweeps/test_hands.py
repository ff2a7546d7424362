"""Who may have the workers of the last stage before the trials; without Ray (see test_trial_trainer.py)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from raypref.errors import UserError
from raypref.store import Store
from raypref.sweeps import hands, tuning
from raypref.sweeps.hands import DriversHands
from raypref.sweeps.kept_workers import Kept
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
        _trial({"trial": "a"}, "sweep", str(tmp_path), mine)  # fails at once: its config is empty
    assert taken == [mine]
    assert json.loads(path.read_text())[TAKES] is False


def test_a_users_error_comes_through_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = UserError("too long", where="here", mend="cut it")

    def get(_: Any) -> None:
        raise RayTaskError("fit", "traceback", said)

    actor = SimpleNamespace(remote=lambda: SimpleNamespace(fit=SimpleNamespace(remote=lambda *arguments: None)))
    monkeypatch.setattr(ray, "remote", lambda **options: lambda kind: actor)
    monkeypatch.setattr(hands.ray, "get", get)
    nothing: Any = None
    with pytest.raises(UserError, match="too long"):
        DriversHands().fit(nothing, [], Store(tmp_path), "name")


def test_hands_that_were_never_needed_have_nothing_to_give() -> None:
    mine = DriversHands()
    mine.release()
    assert mine.give() is None
