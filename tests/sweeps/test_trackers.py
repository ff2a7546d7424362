"""Finished trials are copied to other trackers; a tracker that is not installed is refused before anything runs."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from raypref.errors import UserError
from raypref.sweeps import trackers
from raypref.sweeps.trackers import Tracker
from tests.support.simulated import Simulated, config


def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "surely_not_installed")
    with pytest.raises(UserError, match="surely_not_installed is not installed"):
        Tracker("wandb", tmp_path, None)


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed")
def test_tensorboard_gets_every_step_and_score(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            written.append(("folder", folder))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def add_hparams(self, params, scores):
            written.append(("hparams", params, scores))

    session = Simulated(tmp_path, config(space={"align.objective.lambda": (2,)}))
    mirror = Tracker("tensorboard", tmp_path / "m", session.store)
    monkeypatch.setattr(mirror.package, "SummaryWriter", Writer)
    (trial,) = session.run()
    log = session.store.path(trial.chain.align.address) / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": s, "loss": 1.0 - s / 10, "note": "x"}) + "\n" for s in range(3)))
    mirror.ended(trial, session.records[0])
    assert ("loss", 0.9, 1) in written
    assert ("validation/exact_hr@1", 0.5, 2) in written
    assert written[-1][1] == {"align.objective.lambda": 2, "method": "recpo", "seed": 0}
    mirror.ended(trial, {"status": "failed"})
    assert len([row for row in written if row[0] == "folder"]) == 1


class Recorder:
    """Stands for a tracker's module: notes every call, and is its own run."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*args, **more):
            self.calls.append((name, args, more))
            return self

        return call

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def summary(self):
        return self


@pytest.fixture
def finished(tmp_path):
    session = Simulated(tmp_path, config(space={"align.objective.lambda": (2,)}))
    (trial,) = session.run()
    log = session.store.path(trial.chain.align.address) / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": s, "loss": 1.0 - s / 10}) + "\n" for s in range(2)))
    return session, trial


@pytest.mark.parametrize("server", [None, "http://mlflow:5000"])
def test_mlflow_has_its_runs_in_the_sweep_s_folder_or_on_its_server(finished, tmp_path, monkeypatch, server):
    session, trial = finished
    monkeypatch.setitem(sys.modules, "mlflow", package := Recorder())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    Tracker("mlflow", tmp_path / "m", session.store).ended(trial, session.records[0])
    said = {name: args for name, args, _ in package.calls}
    assert said.get("set_tracking_uri") == (None if server else (f"sqlite:///{tmp_path}/m/mlflow.db",))
    assert ("log_metrics", ({"loss": 0.9},), {"step": 1}) in package.calls
    assert said["log_metrics"][0]["validation/exact_hr_at_1"] == 0.5  # the last: scores, without an at sign
    assert said["log_params"] == ({"align.objective.lambda": 2, "method": "recpo", "seed": 0},)


def test_wandb_gets_steps_and_scores(finished, tmp_path, monkeypatch):
    session, trial = finished
    monkeypatch.setitem(sys.modules, "wandb", package := Recorder())
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    Tracker("wandb", tmp_path / "m", session.store).ended(trial, session.records[0])
    name, _, more = package.calls[0]
    assert (name, more["project"], more["group"], more["name"]) == ("init", "mine", "m", "recpo λ=2 seed=0")
    assert ("log", ({"loss": 0.9},), {"step": 1}) in package.calls
    assert package.calls[-1][0] == "update"
    assert package.calls[-1][1][0]["validation/exact_hr@1"] == 0.5
