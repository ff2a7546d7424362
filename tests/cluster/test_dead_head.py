"""A submitted sweep loses the head, with it the whole cluster, and is submitted again.

In a file of its own, as pytest-xdist gives out whole files.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.nodes import (
    ALL,
    PATIENCE,
    SWEEP,
    assert_undisturbed,
    below,
    checkpoints,
    facts,
    records,
    table,
    wait,
)
from tests.support.processes import CHECKOUT, environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]


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
            with contextlib.suppress(psutil.NoSuchProcess):  # one ends by itself once its parent is gone
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
