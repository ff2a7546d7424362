"""Runs that start at once on one empty root, on a disk or in S3: what they share is made once, whoever dies."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from raypref.storage.bucket import Bucket
from raypref.storage.lease import FOLDER
from raypref.storage.store import MANIFEST
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE, wait
from tests.support.processes import CHECKOUT, environment
from tests.support.s3 import ROOT, served_s3

pytestmark = pytest.mark.timeout(3 * PATIENCE)
SHARED = ("prepare", "tokenize", "sft", "reference")
OPTIONS = """
    --preset smoke --no-ray --resources.engine torch --resources.threads 1 --evaluation.no-generate
    --sft.max-steps 60 --resources.checkpoint-every 5
""".split()


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Where the results go, read as a bucket whatever it is."""
    if request.param == "disk":
        yield Bucket(str(tmp_path / "root"))
        return
    with served_s3(monkeypatch):
        yield Bucket(ROOT)


def start(root: Bucket, home: Path, number: int) -> Forked:
    """A run whose λ differs from the others', so that all is shared but alignment; two of them share a mirror."""
    command = ["-m", "raypref.cli", "run", *OPTIONS, "--root", root.address, "--align.objective.lambda", str(number)]
    return Forked(command, environment(home / f"machine-{number // 2}"), CHECKOUT, home / f"{number}.log")


def assert_made_once(root: Bucket, said: list[str], runs: int) -> None:
    """One of the runs says of each shared stage how long it took; `runs` are aligned, and no lease is left."""
    lines = [line for text in said for line in text.splitlines()]
    made = {kind: sum(bool(re.match(rf"{kind} +[\d.]+ s ", line)) for line in lines) for kind in SHARED}
    assert made == dict.fromkeys(SHARED, 1), "\n".join(said)
    assert sum(name.endswith(MANIFEST) for name in root.files("align")) == runs
    assert not root.files(FOLDER)


@pytest.mark.slow
def test_eight_runs_make_what_they_share_once(root: Bucket, tmp_path: Path) -> None:
    runs = [start(root, tmp_path, number) for number in range(8)]
    said = [run.said(2 * PATIENCE) for run in runs]
    assert [run.poll() for run in runs] == [0] * 8, "\n".join(said)[-6000:]
    assert_made_once(root, said, 8)


@pytest.mark.parametrize("count", [pytest.param(3, marks=pytest.mark.cluster), pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_in_the_middle_of_sft_is_taken_over(root: Bucket, tmp_path: Path, count: int) -> None:
    runs = [start(root, tmp_path, number) for number in range(count)]
    checkpoint = re.compile(r"sft-.*/checkpoint\.json")
    wait("a checkpoint of SFT", lambda: any(map(checkpoint.fullmatch, root.files(".scratch"))))
    leases = [json.loads(root.read(f"{FOLDER}/{name}")) for name in root.files(FOLDER) if name.startswith("sft-")]
    (victim,) = [lease["pid"] for lease in leases if lease.get("held", True)]
    os.kill(victim, signal.SIGKILL)
    said = {run.pid: run.said(2 * PATIENCE) for run in runs}
    ended = {run.pid: -signal.SIGKILL if run.pid == victim else 0 for run in runs}
    assert {run.pid: run.poll() for run in runs} == ended, said
    assert_made_once(root, list(said.values()), count - 1)
    assert any("is taken over" in text for text in said.values())
    (manifest,) = [name for name in root.files("sft") if name.endswith(MANIFEST)]
    assert json.loads(root.read(f"sft/{manifest}"))["facts"]["resumed_at"]  # from the dead one's checkpoint
