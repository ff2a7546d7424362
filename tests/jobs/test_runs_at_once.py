"""Runs that start at once on one empty root: what they share is made once, whoever asks, and whoever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raypref.storage.lease import FOLDER
from raypref.storage.store import MANIFEST
from tests.support.processes import CHECKOUT, environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
SHARED = ("prepare", "tokenize", "sft", "reference")
OPTIONS = """
    --preset smoke --no-ray --resources.engine torch --resources.threads 1 --evaluation.no-generate
    --sft.max-steps 60 --resources.checkpoint-every 5
""".split()


def start(home: Path, number: int) -> subprocess.Popen[str]:
    """A run whose λ differs from the others', so that all is shared but alignment."""
    own = ["--root", str(home / "root"), "--align.objective.lambda", str(number)]
    return subprocess.Popen(
        [sys.executable, "-m", "raypref.cli", "run", *OPTIONS, *own],
        env=environment(home), cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def made(said: list[str]) -> dict[str, int]:
    """How many of the runs say of a stage how long it took them."""
    lines = [line for text in said for line in text.splitlines()]
    return {kind: sum(bool(re.match(rf"{kind} +[\d.]+ s ", line)) for line in lines) for kind in SHARED}


def aligned(home: Path) -> int:
    return len(list((home / "root" / "align").glob(f"*/{MANIFEST}")))


def test_eight_runs_make_what_they_share_once(tmp_path: Path) -> None:
    runs = [start(tmp_path, number) for number in range(8)]
    said = [run.communicate(timeout=800)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 8, "\n".join(said)[-6000:]
    assert made(said) == dict.fromkeys(SHARED, 1), "\n".join(said)
    assert aligned(tmp_path) == 8
    assert not list((tmp_path / "root" / FOLDER).iterdir())


def test_a_run_that_is_killed_in_the_middle_of_sft_is_taken_over(tmp_path: Path) -> None:
    runs = [start(tmp_path, number) for number in range(3)]
    deadline = time.monotonic() + 400
    while not (found := list((tmp_path / "root").glob(".scratch/sft-*/checkpoint.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (lease,) = (tmp_path / "root" / FOLDER).glob("sft-*")
    victim = json.loads(lease.read_text())["pid"]
    assert found
    os.kill(victim, signal.SIGKILL)
    said = {run.pid: run.communicate(timeout=800)[0] for run in runs}
    assert {run.pid: run.returncode for run in runs} == {
        run.pid: -signal.SIGKILL if run.pid == victim else 0 for run in runs
    }, said
    assert made(list(said.values()))["sft"] == 1
    assert sum("is taken over" in text for text in said.values()) == 1
    (manifest,) = (tmp_path / "root" / "sft").glob(f"*/{MANIFEST}")
    assert json.loads(manifest.read_text())["facts"]["resumed_at"]  # from the dead one's checkpoint
    assert aligned(tmp_path) == 2
