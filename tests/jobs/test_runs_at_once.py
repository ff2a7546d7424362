"""Runs that start at once on one empty root: what they share is made once, whoever asks, and whoever dies."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from raypref.storage.lease import FOLDER
from raypref.storage.store import MANIFEST
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE, wait
from tests.support.processes import CHECKOUT, environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]
SHARED = ("prepare", "tokenize", "sft", "reference")
OPTIONS = """
    --preset smoke --no-ray --resources.engine torch --resources.threads 1 --evaluation.no-generate
    --sft.max-steps 60 --resources.checkpoint-every 5
""".split()


def start(home: Path, number: int) -> Forked:
    """A run whose λ differs from the others', so that all is shared but alignment."""
    own = ["--root", str(home / "root"), "--align.objective.lambda", str(number)]
    command = ["-m", "raypref.cli", "run", *OPTIONS, *own]
    return Forked(command, environment(home), CHECKOUT, home / f"{number}.log")


def made(said: list[str]) -> dict[str, int]:
    """How many of the runs say of a stage how long it took them."""
    lines = [line for text in said for line in text.splitlines()]
    return {kind: sum(bool(re.match(rf"{kind} +[\d.]+ s ", line)) for line in lines) for kind in SHARED}


def aligned(home: Path) -> int:
    return len(list((home / "root" / "align").glob(f"*/{MANIFEST}")))


def test_eight_runs_make_what_they_share_once(tmp_path: Path) -> None:
    runs = [start(tmp_path, number) for number in range(8)]
    said = [run.said(2 * PATIENCE) for run in runs]
    assert [run.poll() for run in runs] == [0] * 8, "\n".join(said)[-6000:]
    assert made(said) == dict.fromkeys(SHARED, 1), "\n".join(said)
    assert aligned(tmp_path) == 8
    assert not list((tmp_path / "root" / FOLDER).iterdir())


def test_a_run_that_is_killed_in_the_middle_of_sft_is_taken_over(tmp_path: Path) -> None:
    runs = [start(tmp_path, number) for number in range(3)]
    wait("a checkpoint", lambda: list((tmp_path / "root").glob(".scratch/sft-*/checkpoint.json")))
    (lease,) = (tmp_path / "root" / FOLDER).glob("sft-*")
    victim = json.loads(lease.read_text())["pid"]
    os.kill(victim, signal.SIGKILL)
    said = {run.pid: run.said(2 * PATIENCE) for run in runs}
    assert {run.pid: run.poll() for run in runs} == {
        run.pid: -signal.SIGKILL if run.pid == victim else 0 for run in runs
    }, said
    assert made(list(said.values()))["sft"] == 1
    assert sum("is taken over" in text for text in said.values()) == 1
    (manifest,) = (tmp_path / "root" / "sft").glob(f"*/{MANIFEST}")
    assert json.loads(manifest.read_text())["facts"]["resumed_at"]  # from the dead one's checkpoint
    assert aligned(tmp_path) == 2
