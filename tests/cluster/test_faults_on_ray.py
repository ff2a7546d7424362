"""A sweep on three local nodes loses a worker, a trial's process, a node, its patience: its table stays the same.

Every fault is real: a signal to a process that this test started. The undisturbed run is made without Ray, in one
process; that the disturbed one gives the same rows, bit for bit, also says that Ray changes nothing.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nodes import (
    ALL,
    CHECKOUT,
    PATIENCE,
    RAY,
    SWEEP,
    TRIAL,
    WORKER,
    Nodes,
    below,
    checkpoints,
    ended,
    environment,
    facts,
    kill_group,
    raylet,
    records,
    rows,
    shared_only,
    table,
    wait,
)

from raypref.commands.submit import submission

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]
ONE = ("--values", "2")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Nodes(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def nodes(three: Nodes) -> Nodes:
    """The cluster, with as many nodes as at the start."""
    three.fill_up()
    return three


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return shared_only(whole, tmp_path / "root")


def assert_undisturbed(root: Path, whole: Path, trials: int) -> None:
    """The evaluations are those of the undisturbed run, row for row."""
    found, expected = rows(root), rows(whole)
    assert len(found) == trials + 1  # and SFT's
    assert all(found[address].equals(expected[address]) for address in found)
    assert {record["status"] for record in records(root)} == {"done"}


def resumed(root: Path) -> list[int]:
    (found,) = facts(root).values()
    return found["resumed_at"]


def test_a_worker_and_a_trial_are_killed_and_a_worker_hangs(nodes: Nodes, root: Path, whole: Path) -> None:
    """Each in a trial of its own, one after another."""
    patience = ("--resources.max-failures", "2", "--resources.hang-timeout", "20")
    job = nodes.sweep(root, *ALL, "--resources.concurrent-trials", "1", *patience)
    met: set[Path] = set()

    def another() -> bool:
        new = set(checkpoints(root)) - met
        met.update(new)
        return bool(new) or job.poll() is not None

    for victim, fault in (
        (WORKER, psutil.Process.kill),
        (TRIAL, psutil.Process.kill),
        (WORKER, psutil.Process.suspend),
    ):
        wait("a checkpoint of another trial", another)
        (process,) = nodes.processes(victim)
        fault(process)  # SIGKILL or SIGSTOP, to a process of this test's own cluster
    ended(job)
    assert_undisturbed(root, whole, 3)
    assert table(root) == table(whole)
    assert all(found["resumed_at"] for found in facts(root).values())


def test_a_node_dies_in_the_middle_of_a_sweep(nodes: Nodes, root: Path, whole: Path) -> None:
    """Its columns are made anew too: on several nodes that is work for Ray Data."""
    for stage in ("tokenize", "reference"):
        shutil.rmtree(root / stage)
    job = nodes.sweep(root, *ALL, "--resources.concurrent-trials", "2", "--resources.max-failures", "3")
    wait("checkpoints of two trials", lambda: len(checkpoints(root)) == 2 or job.poll() is not None)
    node = next(node for node in nodes.workers if below(node, WORKER))
    process = raylet(node)
    assert process is not None
    process.kill()
    ended(job)
    assert_undisturbed(root, whole, 3)
    assert table(root) == table(whole)
    assert any(found["resumed_at"] for found in facts(root).values())


def test_a_spot_node_is_given_notice(nodes: Nodes, root: Path, whole: Path) -> None:
    """Then its processes get SIGTERM; not even the work since the last periodic checkpoint is lost."""
    job = nodes.sweep(root, *ONE, "--resources.checkpoint-every", "1000")
    logs = root / ".scratch"
    wait("some steps", lambda: any(p.stat().st_size > 500 for p in logs.glob("*/metrics.jsonl")) or job.poll())
    node = next(node for node in nodes.workers if below(node, WORKER))
    process = raylet(node)
    assert process is not None
    (own,) = [word.split("=", 1)[1] for word in process.cmdline() if word.startswith("--node_id=")]
    drain = [*RAY, "drain-node", "--address", nodes.environment["RAY_ADDRESS"], "--node-id", own]
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "20"]
    subprocess.run([*drain, *why], env=nodes.environment, check=True, capture_output=True)
    wait("the checkpoint", lambda: checkpoints(root) or job.poll() is not None)
    kill_group(node, signal.SIGTERM)
    ended(job)
    kill_group(node, signal.SIGKILL)  # what is left of it: the next test counts its nodes
    node.wait()
    assert_undisturbed(root, whole, 1)
    assert resumed(root)


def test_a_submitted_job_is_stopped_and_another_goes_on(nodes: Nodes, root: Path, whole: Path) -> None:
    address = nodes.environment["RAY_API_SERVER_ADDRESS"]
    name = f"stopped-{root.parent.name}"
    more = ["--submission-id", name, "--no-wait"]
    submit = submission(address, Path("jobs/sweep_lambda.py"), ["--root", str(root), *SWEEP, *ONE], more)
    subprocess.run(submit, env=nodes.environment, cwd=CHECKOUT, check=True, capture_output=True, timeout=300)
    try:
        wait("a checkpoint", lambda: checkpoints(root))
    except AssertionError:
        for asked in ("status", "logs", "stop"):  # into what pytest prints of a failed test
            subprocess.run([*RAY, "job", asked, "--address", address, name], env=nodes.environment, check=False)
        raise
    stop = [*RAY, "job", "stop", "--address", address, name]
    subprocess.run(stop, env=nodes.environment, check=True, capture_output=True, timeout=300)
    wait("the end of its processes", lambda: not nodes.processes(WORKER))
    assert not rows(root).keys() & {record["evaluate"].rsplit("/")[-1] for record in records(root)}
    ended(nodes.sweep(root, *ONE))
    assert_undisturbed(root, whole, 1)
    assert resumed(root)


def test_the_head_dies_and_the_job_is_submitted_again(tmp_path: Path, root: Path, whole: Path) -> None:
    submit = [sys.executable, "-m", "raypref.cli", "submit", "jobs/sweep_lambda.py", "--root", str(root)]
    submit += [*SWEEP, *ALL, "--resources.concurrent-trials", "1"]
    options = {"env": environment(tmp_path), "cwd": CHECKOUT, "stderr": subprocess.STDOUT, "text": True}
    with (tmp_path / "first.log").open("w") as log:
        first = subprocess.Popen(submit, stdout=log, start_new_session=True, **options)  # type: ignore[call-overload]
        done = lambda: sum(record["status"] == "done" for record in records(root))  # noqa: E731
        wait("a trial and a checkpoint", lambda: (done() and checkpoints(root)) or first.poll() is not None)
        heads = [p for p in below(first, "") if "ray.scripts.scripts start --head" in " ".join(p.cmdline())]
        for process in (*heads[0].children(recursive=True), heads[0]):
            process.kill()
        first.wait(120)
    before = {path: path.stat().st_mtime_ns for path in root.glob("align/*/_SUCCESS")}
    assert 1 <= len(before) < 3, (tmp_path / "first.log").read_text()[-3000:]
    again = subprocess.run(submit, stdout=subprocess.PIPE, timeout=800, check=False, **options)  # type: ignore[call-overload]
    assert again.returncode == 0, again.stdout[-4000:]
    after = {path: path.stat().st_mtime_ns for path in root.glob("align/*/_SUCCESS")}
    assert before.items() <= after.items()
    assert_undisturbed(root, whole, 3)
    assert table(root) == table(whole)
    assert any(found["resumed_at"] for found in facts(root).values())
