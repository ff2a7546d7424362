"""What a dry run foretells: margins as the losses have them, power by the store's spread, and no heavy import."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from raypref.config.loading import load, override
from raypref.config.objectives import Recpo
from raypref.objectives import PreferenceBatch
from raypref.objectives.margins import recpo_handicap
from raypref.storage.store import Store
from raypref.sweeps.forecast import handicap, margin_line, power_line
from raypref.sweeps.space import SweepConfig, grid, trials
from tests.support.planted_sweeps import LAMBDA

SWEEP = SweepConfig(name="planted", question="?", space={LAMBDA: (0.0, 0.5, 3.0)}, default={LAMBDA: 0.5}, seeds=3)


def planned():
    config, _ = load("smoke", None)
    config = override(config, {"align.objective.name": "recpo"}, "test")
    return trials(SWEEP, config, grid(SWEEP, config))


@pytest.mark.parametrize("margin", ["ratio", "log_ratio", "log_diff"])
def test_the_handicap_is_the_losses_own(margin):
    params = Recpo.model_validate({"name": "recpo", "margin": margin, "lambda": 2, "alpha": 0.7})
    rating = np.array([[5, 3, np.nan, 4], [2, 4, 4, np.nan]], dtype=float)
    latency = np.array([[1, 4, np.nan, 2], [3, 1, 2, np.nan]], dtype=float)
    target = np.array([0, 1])
    expected = []
    for row in range(2):
        others = [c for c in range(4) if c != target[row]]
        columns = {
            f"{name}_{side}": torch.tensor(values, dtype=torch.float64)
            for name, table in (("rating", rating), ("latency", latency))
            for side, values in (("pos", [table[row, target[row]]]), ("neg", [table[row, others]]))
        }
        zeros = torch.zeros(1, 3)
        batch = PreferenceBatch(zeros[:, 0], zeros, torch.ones(1), torch.ones(1, 3), columns=columns)
        expected.append(recpo_handicap(batch, params, 3).mean().item())
    assert handicap(params, rating, latency, target) == pytest.approx(np.mean(expected), rel=1e-6)


def test_margins_before_and_after_an_earlier_sweep(tmp_path):
    store = Store(str(tmp_path))
    line = margin_line(planned(), store)
    assert line.startswith("margins   λ=3 asks for a reward margin of ")
    assert ", λ=0.5 for " in line
    assert "typical ratings" in line
    folder = tmp_path / "sweeps" / "earlier"
    folder.mkdir(parents=True)
    kind = planned()[0].chain.config.data.source.kind
    align = planned()[0].chain.config.align
    assert align.max_steps is not None
    reached = {"margin": 0.5, "steps": align.max_steps, "learning_rate": align.learning_rate}
    (folder / "spread.json").write_text(json.dumps({"dataset": kind, "reached": reached}))
    assert "came to 0.5 here: so far off, the margin can hardly act" in margin_line(planned(), store)
    further = reached | {"margin": 9.0, "steps": 20 * align.max_steps}
    (folder / "spread.json").write_text(json.dumps({"dataset": kind, "reached": further}))
    assert "may come to 5% of that: so far off, the margin can hardly act" in margin_line(planned(), store)


def test_power_by_what_the_store_knows(tmp_path):
    store = Store(str(tmp_path))
    line = power_line(planned(), 3, 3, store)
    assert "assumed until the data are prepared" in line
    assert "assumed from the seven sweeps" in line
    assert "0.01 would need" in line
    folder = tmp_path / "sweeps" / "earlier"
    folder.mkdir(parents=True)
    kind = planned()[0].chain.config.data.source.kind
    quiet = {"dataset": kind, "lasting": 1e-6, "passing": 1e-6, "seeds": 0.0, "freedom": 8}
    (folder / "spread.json").write_text(json.dumps(quiet))
    assert f"0.01 is within reach (spread: 1 earlier sweep of {kind} in this store)" in power_line(
        planned(), 3, 3, store
    )
    assert "--decide 0.01" in power_line(planned(), 3, 1, store)


def test_nothing_heavy_is_imported():
    code = "import sys, raypref.sweeps.forecast; print([m for m in ('scipy', 'torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
