"""A sweep on three local nodes loses workers, trials' processes, its job, its patience: its table stays the same.

Every fault is real: a signal to a process that this test started. The undisturbed run is made without Ray, in one
process; that the disturbed one gives the same rows, bit for bit, also says that Ray changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import psutil
import pytest

from raypref.commands.submit import submission
from tests.support.nodes import (
    ALL,
    ONE,
    PATIENCE,
    RAY,
    SWEEP,
    TRIAL,
    WORKER,
    Nodes,
    assert_undisturbed,
    checkpoints,
    ended,
    facts,
    records,
    rows,
    table,
    wait,
)
from tests.support.processes import CHECKOUT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]
OF_TWO = ("--resources.workers", "2")


def test_trials_are_killed_and_the_job_is_stopped(nodes: Nodes, root: Path, whole: Path) -> None:
    """Of a submitted job's three trials the first is killed, in the second the job is stopped; then the sweep again, of
    which the third is killed."""
    address = nodes.environment["RAY_API_SERVER_ADDRESS"]
    job = submitted(nodes, root, *ALL, "--resources.concurrent-trials", "1")
    met: set[Path] = set()
    try:
        wait("a checkpoint of a trial", lambda: another(root, met))
    except AssertionError:
        for asked in ("status", "logs", "stop"):  # into what pytest prints of a failed test
            subprocess.run([*RAY, "job", asked, "--address", address, job], env=nodes.environment, check=False)
        raise
    (process,) = nodes.processes(TRIAL)
    process.kill()
    wait("a checkpoint of another trial", lambda: another(root, met))
    for process in nodes.processes(TRIAL):
        process.suspend()  # held, as it may end before Ray's command has begun
    stop = [*RAY, "job", "stop", "--address", address, job]
    subprocess.run(stop, env=nodes.environment, check=True, capture_output=True, timeout=300)
    wait("the end of its processes", lambda: not nodes.processes(TRIAL))
    begun = [record for record in records(root) if record["status"] != "done"]
    assert len(records(root)) == len(begun) + 1
    assert begun
    assert not rows(root).keys() & {record["evaluate"].rsplit("/")[-1] for record in begun}
    again = nodes.sweep(root, *ALL, "--resources.concurrent-trials", "1")
    wait("a checkpoint of the third trial", lambda: another(root, met) or again.poll() is not None)
    (process,) = nodes.processes(TRIAL)
    process.kill()
    ended(again)
    assert_undisturbed(root, whole, 3)
    assert table(root) == table(whole)
    assert all(found["resumed_at"] for found in facts(root).values())


def submitted(nodes: Nodes, root: Path, *options: str) -> str:
    """The λ sweep as a job of the cluster's own; its name."""
    name = f"job-{root.parent.name}"
    arguments, more = ["--root", str(root), *SWEEP, *options], ["--submission-id", name, "--no-wait"]
    submit = submission(nodes.environment["RAY_API_SERVER_ADDRESS"], Path("jobs/sweep_lambda.py"), arguments, more)
    subprocess.run(submit, env=nodes.environment, cwd=CHECKOUT, check=True, capture_output=True, timeout=300)
    return name


def test_workers_of_groups_are_killed_and_hang(nodes: Nodes, root: Path, whole: Path) -> None:
    """A worker of two is killed, in the next group one is stopped; the losses are those of one undisturbed worker."""
    patience = ("--resources.max-failures", "3", "--resources.hang-timeout", "20")
    job = nodes.sweep(root, *ONE, *patience, *OF_TWO)
    met = ""
    for fault in (psutil.Process.kill, psutil.Process.suspend):
        met = wait("another checkpoint", lambda met=met: newer(root, met) or (job.poll() is not None and "ended"))
        fault(nodes.processes(WORKER)[0])  # SIGKILL or SIGSTOP, to a process of this test's own cluster
    ended(job)
    assert {record["status"] for record in records(root)} == {"done"}
    ((address, found),) = facts(root).items()
    assert len(found["resumed_at"]) >= 2
    mine, undisturbed = (losses(folder / "align" / address) for folder in (root, whole))
    assert mine == pytest.approx(undisturbed, rel=1e-3)


def newer(root: Path, met: str) -> str | None:
    """What the pointer to the checkpoint of the training that is under way says, once it says something else."""
    for path in checkpoints(root):
        with contextlib.suppress(FileNotFoundError):  # the training has just ended
            if (text := path.read_text()) != met:
                return text
    return None


def another(root: Path, met: set[Path]) -> bool:
    """Whether there are checkpoints that were not met before; from now on they were."""
    new = set(checkpoints(root)) - met
    met.update(new)
    return bool(new)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
