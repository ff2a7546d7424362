"""Sweeps through real Ray: killed and started again, pruned, searched."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raypref.cluster.head import MIN_LOGICAL_CPUS
from raypref.storage.store import MANIFEST
from tests.support.forked import Forked
from tests.support.nodes import PATIENCE, Nodes, wait
from tests.support.processes import environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(3 * PATIENCE)]
SEARCHED = ("--resources.engine", "torch", "--evaluation.max-examples", "10")  # what is searched with needs no more


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head that several sweeps join, one after the other."""
    with Nodes(tmp_path_factory.mktemp("home"), cpus=MIN_LOGICAL_CPUS) as started:
        yield started


def start(job: str, home: Path, env: dict[str, str], *options: str) -> Forked:
    """A job of the smoke preset."""
    command = [f"jobs/{job}.py", "--preset", "smoke", "--root", str(home / "root"), *options]
    return Forked(command, env, home, home / f"{job}-{time.monotonic_ns()}.log")


def run(job: str, home: Path, env: dict[str, str], *options: str) -> tuple[int | None, str]:
    """Its exit code, and what it said."""
    started = start(job, home, env, *options)
    said = started.said(2 * PATIENCE)
    return started.poll(), said


def records(home: Path) -> dict[str, dict]:
    paths = (home / "root" / "sweeps").glob("*/trials/*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def aligned(home: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (home / "root" / "align").glob(f"*/{MANIFEST}")}


def test_a_sweep_killed_by_sigkill_repeats_no_finished_trial(tmp_path: Path, head: Nodes) -> None:
    """With the Ray that it started; the same command then finds another."""
    options = ("--seeds", "1", "--resources.concurrent-trials", "1")
    first = start("sweep_lambda", tmp_path, environment(tmp_path), *options)
    ended = lambda: sum(record["status"] == "done" for record in records(tmp_path).values())  # noqa: E731
    wait("two trials", lambda: ended() >= 2 or first.poll() is not None)
    os.killpg(first.pid, signal.SIGKILL)
    said = first.said(PATIENCE)
    done = {id for id, record in records(tmp_path).items() if record["status"] == "done"}
    assert 2 <= len(done) < 4, said[-3000:]
    before = aligned(tmp_path)
    code, said = run("sweep_lambda", tmp_path, head.environment, *options)
    assert code == 0, said[-4000:]
    assert {path: when for path, when in aligned(tmp_path).items() if path in before} == before
    assert f"{len(done)} done before" in said
    assert {record["status"] for record in records(tmp_path).values()} == {"done"}
    assert len(records(tmp_path)) == 4


def test_a_search_with_a_pruner(tmp_path: Path, head: Nodes) -> None:
    search = ("--search", "random", "--pruner", "asha", "--trials", "4", "--seeds", "1", "--align.validations", "3")
    rule = ("--align.keep", "last", "--resources.concurrent-trials", "1", *SEARCHED)
    code, said = run("sweep_joint", tmp_path, head.environment, *search, *rule)
    assert code == 2  # two metrics, and a pruner looks at one
    assert "looks at one metric" in said
    values = ("--values", "0", "0.5", "1", "2", "3", "--align.max-steps", "6")
    code, said = run("sweep_lambda", tmp_path, head.environment, *search, *rule, *values)
    assert code == 0, said[-4000:]
    states = [record["status"] for record in records(tmp_path).values()]
    assert len(states) == 4
    assert set(states) <= {"done", "pruned"}
    assert "done" in states


def test_a_joint_search_is_extended(tmp_path: Path, head: Nodes) -> None:
    code, said = run("sweep_joint", tmp_path, head.environment, "--trials", "3", "--seeds", "1", *SEARCHED)
    assert code == 0, said[-4000:]
    before = aligned(tmp_path)
    code, said = run("sweep_joint", tmp_path, head.environment, "--seeds", "1", "--add-trials", "1", *SEARCHED)
    assert code == 0, said[-4000:]
    assert len(aligned(tmp_path)) == 4
    assert before.items() <= aligned(tmp_path).items()
    (folder,) = (tmp_path / "root" / "sweeps").iterdir()
    assert {"pareto.csv", "parallel.svg", "report.html", "optuna.journal"} <= {path.name for path in folder.iterdir()}
