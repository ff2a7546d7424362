"""What a user waits for and opens after a large sweep: `raypref collect` of a thousand finished trials."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raypref.commands.collect import collect as collect_command
from raypref.results.collect import load
from tests.support.planted_sweeps import LAMBDA, evaluation, rows, sweep, trained

SETTINGS, SEEDS, FAILED, USERS = 200, 5, 40, 500
MODELS = 40  # evaluations and logs that differ; the trials share them by hard links, which are read like files


def thousand(root: Path) -> Path:
    """A sweep of 200 settings with 5 seeds, each trial with 500 users a split and its log, and 40 failed ones."""
    folder = sweep(root, {LAMBDA: [0]}, {LAMBDA: 0}, lambda setting, seed: 0.3, seeds=1, users=USERS)
    rng = np.random.default_rng(0)
    for model in range(MODELS):
        evaluation(root, f"models/{model}/evaluate", rows(rng, 0.2 + 0.2 * model / MODELS, USERS))
        trained(root, f"models/{model}/align", rng, steps=100)
    content = json.loads((folder / "trials" / f"{0:012x}.json").read_text())
    for number in range(SETTINGS * SEEDS + FAILED):
        trial, value, seed = f"{number:012x}", number // SEEDS / 10, number % SEEDS
        record = {"trial": trial, "label": f"recpo λ={value:g} seed={seed}", "params": {LAMBDA: value}, "seed": seed}
        record |= {"seconds": 30 + rng.random(), "evaluate": f"evaluate/many-{trial}", "align": f"align/many-{trial}"}
        if number >= SETTINGS * SEEDS:
            record |= {"status": "failed", "error": traceback(number)}
        else:
            for stage in ("evaluate", "align"):
                linked(root / "models" / str(rng.integers(MODELS)) / stage, root / stage / f"many-{trial}")
        (folder / "trials" / f"{trial}.json").write_text(json.dumps(content | record))
    return folder


def linked(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        os.link(path, target / path.name)


def traceback(number: int) -> str:
    """As long as those of a training worker are, and no two alike."""
    frames = [f'  File "/site-packages/torch/nn/module_{line}.py", line {line}, in forward\n' for line in range(80)]
    code = "    return self._call_impl(*args, **kwargs)\n"
    end = f"torch.OutOfMemoryError: tried to allocate {number}.00 MiB"
    return "Traceback (most recent call last):\n" + code.join(frames) + code + end


@pytest.mark.slow
def test_collecting_a_thousand_trials_takes_under_20_seconds_and_a_report_under_5_mb(tmp_path, capsys):
    folder = thousand(tmp_path)
    started = time.process_time()  # of all threads: what else the machine does does not count
    assert collect_command((str(folder),)) == 3  # some failed
    took = time.process_time() - started
    said = capsys.readouterr().out
    assert "gives HR@1" in said
    assert f"{FAILED} trial(s) did not finish" in said
    found = load(folder)
    assert len(found.done) == SETTINGS * SEEDS
    assert found.users.num_rows == SETTINGS * SEEDS * 2 * USERS + 2 * USERS
    assert pq.read_metadata(folder / "training.parquet").num_rows > 10 * SETTINGS * SEEDS
    assert {"table.tex", "curve-lambda.pdf", "cost-lambda.svg", "training.png"} <= set(os.listdir(folder))
    page = (folder / "report.html").read_bytes()
    assert page.count(b"<tr data-trial") == 1 + SETTINGS * SEEDS + FAILED
    assert page.count(b"<polyline") == 2 * SETTINGS * SEEDS
    assert len(page) < 5_000_000
    assert took < 20
