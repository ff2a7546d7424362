"""Finished trials are copied to other trackers; a tracker that is not installed is refused before anything runs."""

from __future__ import annotations

import importlib.util
import json

import pytest

from raypref.errors import UserError
from raypref.sweeps import mirrors
from raypref.sweeps.mirrors import Mirror
from tests.sweeps.simulated import Simulated, config


def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(mirrors.PACKAGES, "wandb", "surely_not_installed")
    with pytest.raises(UserError, match="surely_not_installed is not installed"):
        Mirror("wandb", tmp_path, None)


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
    mirror = Mirror("tensorboard", tmp_path / "m", session.store)
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
