"""What one process can show of faults: trials that can't go on, a disk that fills up in the middle of a sweep."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raypref.storage.store import MANIFEST
from raypref.sweeps.job import EXIT_TRIALS_FAILED, EXIT_USER_ERROR, run
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE
from tests.support.processes import CHECKOUT, environment

SWEEP = CHECKOUT / "sweeps" / "sweep_lambda.yaml"
HERE = ("--preset", "smoke", "--no-ray", "--seeds", "1", "--resources.engine", "torch", "--evaluation.no-generate")


def records(root: Path) -> dict[Any, dict[str, Any]]:
    """Of each trial, by its setting."""
    found = [json.loads(path.read_text()) for path in root.glob("sweeps/*/trials/*.json")]
    return {next(iter(record["params"].values())): record for record in found}


def published(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.glob(f"*/*/{MANIFEST}")}


HARMFUL = """
import torch
from raypref.objectives import ObjectiveOutput
from raypref.objectives.rewards import log_ratios

def loss(batch, params, state):
    pos, neg = log_ratios(batch)
    state["seen"] = state.get("seen", torch.zeros(())) + 1
    if state["seen"] == 3 and params.harm == 2:
        torch.empty(1 << 50, dtype=torch.uint8)
    scale = float("nan") if state["seen"] == 3 and params.harm == 1 else 1.0
    return ObjectiveOutput(scale * (neg.mean(dim=1) - pos), {})
"""
HARMS = """
name: harms
question: What does a trial that can't go on do to the others?
objective: custom
space: {align.objective.params.harm: [0, 1, 2, 3]}
seeds: 1
"""


def test_a_trial_that_cannot_go_on_ends_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One has a loss that is no number, one asks for a pebibyte of memory."""
    (tmp_path / "loss.py").write_text(HARMFUL)
    (tmp_path / "harms.yaml").write_text(HARMS)
    own = ("--align.objective.file", str(tmp_path / "loss.py"), "--align.objective.params", "harm", "0")
    options = ["--root", str(tmp_path / "root"), *HERE, *own]
    assert run(tmp_path / "harms.yaml", options) == EXIT_TRIALS_FAILED
    said = capsys.readouterr().out
    assert "failed: training diverged at step 1: loss nan" in said
    assert "failed: out of memory: " in said
    found = records(tmp_path / "root")
    assert {harm: record["status"] for harm, record in found.items()} == {
        0: "done",
        1: "failed",
        2: "failed",
        3: "done",
    }
    assert "lower the learning rate" in found[1]["error"]
    assert "lower resources.micro_batch" in found[2]["error"]
    before = published(tmp_path / "root")
    assert run(tmp_path / "harms.yaml", options) == EXIT_TRIALS_FAILED
    assert published(tmp_path / "root") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.cluster
@pytest.mark.timeout(3 * PATIENCE)
def test_a_disk_that_fills_up_costs_no_finished_trial(small_disk: Path) -> None:
    root = small_disk / "results"
    command = ["jobs/sweep_lambda.py", "--root", str(root), *HERE]
    job = Forked(command, environment(small_disk), small_disk, small_disk.parent / "first.log")
    while job.poll() is None and not any(record["status"] == "done" for record in records(root).values()):
        time.sleep(0.05)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    said = job.said(PATIENCE)
    assert job.poll() in (EXIT_USER_ERROR, EXIT_TRIALS_FAILED), said[-3000:]
    assert "the disk is full" in said
    assert "Traceback" not in said
    filler.unlink()
    before = published(root)
    done = [value for value, record in records(root).items() if record["status"] == "done"]
    assert 1 <= len(done) < 4, said[-3000:]
    again = Forked(command, environment(small_disk), small_disk, small_disk.parent / "again.log")
    said = again.said(PATIENCE)
    assert again.poll() == 0, said[-4000:]
    assert before.items() <= published(root).items()
    assert [record["status"] for record in records(root).values()] == ["done"] * 4
