"""Sweeps through real Ray: killed and started again, pruned, searched; slow, as each starts Ray (and its trials)."""

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

from raypref.storage.store import MANIFEST
from tests.support.processes import CHECKOUT, environment

pytestmark = pytest.mark.ray
SEARCHED = ("--resources.engine", "torch", "--evaluation.max-examples", "10")  # what is searched with needs no more


def command(job: str, home: Path, *options: str) -> dict:
    """Arguments of subprocess for a job of the smoke preset, with a HOME of its own for Ray's token."""
    script = str(CHECKOUT / "jobs" / f"{job}.py")
    arguments = [sys.executable, script, "--preset", "smoke", "--root", str(home / "root"), *options]
    return {"args": arguments, "env": environment(home), "cwd": home}


def run(job: str, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**command(job, home, *options), capture_output=True, text=True, timeout=550, check=False)


def records(home: Path) -> dict[str, dict]:
    paths = (home / "root" / "sweeps").glob("*/trials/*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def aligned(home: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (home / "root" / "align").glob(f"*/{MANIFEST}")}


def test_a_sweep_killed_by_sigkill_repeats_no_finished_trial(tmp_path):
    options = ("--seeds", "1", "--resources.concurrent-trials", "1")
    with (tmp_path / "first.log").open("w") as log:
        first = subprocess.Popen(
            **command("sweep_lambda", tmp_path, *options), stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and first.poll() is None:
        if sum(record["status"] == "done" for record in records(tmp_path).values()) >= 2:
            break
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = {id for id, record in records(tmp_path).items() if record["status"] == "done"}
    assert 2 <= len(done) < 4, (tmp_path / "first.log").read_text()[-3000:]
    before = aligned(tmp_path)
    again = run("sweep_lambda", tmp_path, *options)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert {path: when for path, when in aligned(tmp_path).items() if path in before} == before
    assert f"{len(done)} done before" in again.stdout
    assert {record["status"] for record in records(tmp_path).values()} == {"done"}
    assert len(records(tmp_path)) == 4


def test_a_search_with_a_pruner(tmp_path):
    search = ("--search", "random", "--pruner", "asha", "--trials", "4", "--seeds", "1", "--align.validations", "3")
    rule = ("--align.keep", "last", "--resources.concurrent-trials", "1", *SEARCHED)
    done = run("sweep_joint", tmp_path, *search, *rule)
    assert done.returncode == 2  # two metrics, and a pruner looks at one
    assert "looks at one metric" in done.stderr
    done = run(
        "sweep_lambda", tmp_path, *search, *rule, "--values", "0", "0.5", "1", "2", "3", "--align.max-steps", "6"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    states = [record["status"] for record in records(tmp_path).values()]
    assert len(states) == 4
    assert set(states) <= {"done", "pruned"}
    assert "done" in states


def test_a_joint_search_is_extended(tmp_path):
    first = run("sweep_joint", tmp_path, "--trials", "3", "--seeds", "1", *SEARCHED)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    before = aligned(tmp_path)
    more = run("sweep_joint", tmp_path, "--seeds", "1", "--add-trials", "1", *SEARCHED)
    assert more.returncode == 0, more.stdout[-3000:] + more.stderr[-3000:]
    assert len(aligned(tmp_path)) == 4
    assert before.items() <= aligned(tmp_path).items()
    (folder,) = (tmp_path / "root" / "sweeps").iterdir()
    assert {"pareto.csv", "parallel.svg", "report.html", "optuna.journal"} <= {path.name for path in folder.iterdir()}


@pytest.mark.timeout(1300)
def test_submitted_jobs_run_on_a_head_of_their_own(tmp_path):
    given = command("sweep_lambda", tmp_path)
    jobs = ["jobs/sweep_lambda.py", "jobs/sweep_beta.py"]  # the second finds the first one's stages done
    arguments = ["submit", *jobs, "--preset", "smoke", "--seeds", "1", "--limit", "1"]  # as `make sweeps`, and fewer
    with subprocess.Popen(
        [sys.executable, "-m", "raypref.cli", *arguments], cwd=CHECKOUT, text=True,
        env=given["env"] | {"RAYPREF_ROOT": str(tmp_path / "root")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=1200)
        finally:
            process.terminate()  # so that it ends the head that it started; it has ended by itself if all is well
    assert process.returncode == 0, said[-3000:]
    assert "Ray head started; dashboard at http://127.0.0.1:" in said
    assert re.search(r"^live curves: raypref dashboard --temp-dir /\S+/raypref-\w+$", said, re.MULTILINE)
    swept = {path.name.split("-")[0] for path in (tmp_path / "root" / "sweeps").iterdir()}
    assert swept == {"sweep_lambda", "sweep_beta"}
    assert {record["status"] for record in records(tmp_path).values()} == {"done"}
