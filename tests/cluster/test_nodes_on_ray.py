"""A sweep on three local nodes loses one of them, without a word and after notice: its table stays the same.

In a file of its own beside test_faults_on_ray.py, as pytest-xdist gives out whole files.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nodes import (
    ONE,
    PATIENCE,
    TRIAL,
    TWO,
    Nodes,
    assert_undisturbed,
    below,
    checkpoints,
    ended,
    facts,
    kill_group,
    raylet,
    table,
    wait,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]


def test_a_node_dies_in_the_middle_of_a_sweep(nodes: Nodes, root: Path, whole: Path) -> None:
    """Its columns are made anew too: on several nodes that is work for Ray Data."""
    for stage in ("tokenize", "reference"):
        shutil.rmtree(root / stage)
    job = nodes.sweep(root, *TWO, "--resources.concurrent-trials", "2", "--resources.max-failures", "3")
    wait("checkpoints of two trials", lambda: len(checkpoints(root)) == 2 or job.poll() is not None)
    node = next(node for node in nodes.workers if below(node, TRIAL))
    process = raylet(node)
    assert process is not None
    process.kill()
    ended(job)
    assert_undisturbed(root, whole, 2)
    assert table(root) == [row for row in table(whole) if row["align.objective.lambda"] != 1]
    assert any(found["resumed_at"] for found in facts(root).values())


def test_a_spot_node_is_given_notice(nodes: Nodes, root: Path, whole: Path) -> None:
    """Then its processes get SIGTERM; not even the work since the last periodic checkpoint is lost."""
    job = nodes.sweep(root, *ONE, "--resources.checkpoint-every", "1000")
    logs = root / ".scratch"
    wait("some steps", lambda: any(p.stat().st_size > 500 for p in logs.glob("*/metrics.jsonl")) or job.poll())
    node = next(node for node in nodes.workers if below(node, TRIAL))
    process = raylet(node)
    assert process is not None
    (own,) = [word.split("=", 1)[1] for word in process.cmdline() if word.startswith("--node_id=")]
    (trial,) = nodes.processes(TRIAL)
    trial.suspend()  # held, as it may end before the notice has begun
    notice = f"give_notice({own!r}, {nodes.environment['RAY_ADDRESS']!r}, 'spot', 20)"  # as `raypref watch-spot` does
    code = f"from raypref.commands.spot import give_notice; {notice}"
    subprocess.run([sys.executable, "-c", code], env=nodes.environment, check=True, capture_output=True)
    trial.resume()
    wait("the checkpoint", lambda: checkpoints(root) or job.poll() is not None)
    kill_group(node, signal.SIGTERM)
    ended(job)
    kill_group(node, signal.SIGKILL)  # what is left of it: the next test counts its nodes
    node.wait()
    assert_undisturbed(root, whole, 1)
    (found,) = facts(root).values()
    assert found["resumed_at"]
