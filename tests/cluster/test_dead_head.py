"""Submitted sweeps lose the head, with it the whole cluster, and are submitted again.

In a file of its own, as pytest-xdist gives out whole files.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.nodes import (
    PATIENCE,
    SWEEP,
    below,
    checkpoints,
    facts,
    records,
    rows,
    table,
    wait,
)
from tests.support.processes import CHECKOUT, environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * PATIENCE)]
LIMITED = ("--limit", "2")  # λ=2 and λ=0, as in the undisturbed run; of the second job two of β


def test_the_head_dies_and_the_jobs_are_submitted_again(tmp_path: Path, root: Path, whole: Path) -> None:
    """Two jobs with the same options, one after the other on the head that `raypref submit` starts for them."""
    submit = [sys.executable, "-m", "raypref.cli", "submit", "jobs/sweep_lambda.py", "jobs/sweep_beta.py"]
    submit += [*SWEEP, *LIMITED, "--resources.concurrent-trials", "1"]
    own = environment(tmp_path) | {"RAYPREF_ROOT": str(root)}
    options = {"env": own, "cwd": CHECKOUT, "stderr": subprocess.STDOUT, "text": True}
    with (tmp_path / "first.log").open("w") as log:
        first = subprocess.Popen(submit, stdout=log, start_new_session=True, **options)  # type: ignore[call-overload]
        done = lambda: sum(record["status"] == "done" for record in records(root))  # noqa: E731
        wait("a trial and a checkpoint", lambda: (done() and checkpoints(root)) or first.poll() is not None)
        heads = [p for p in below(first, "") if "ray.scripts.scripts start --head" in " ".join(p.cmdline())]
        for process in (*heads[0].children(recursive=True), heads[0]):
            with contextlib.suppress(psutil.NoSuchProcess):  # one ends by itself once its parent is gone
                process.kill()
        assert first.wait(PATIENCE) != 0
    before = {path: path.stat().st_mtime_ns for path in root.glob("align/*/_SUCCESS")}
    assert len(before) == 1, (tmp_path / "first.log").read_text()[-3000:]
    with subprocess.Popen(submit, stdout=subprocess.PIPE, **options) as again:  # type: ignore[call-overload]
        try:
            said, _ = again.communicate(timeout=2 * PATIENCE)
        finally:
            again.terminate()  # so that it ends the head that it started; it has ended by itself if all is well
    assert again.returncode == 0, said[-4000:]
    assert "Ray head started; dashboard at http://127.0.0.1:" in said
    assert re.search(r"^live curves: raypref dashboard --temp-dir /\S+/raypref-\w+$", said, re.MULTILINE)
    after = {path: path.stat().st_mtime_ns for path in root.glob("align/*/_SUCCESS")}
    assert before.items() <= after.items()
    assert any(found["resumed_at"] for found in facts(root).values())
    swept = {path.name.split("-")[0]: path for path in (root / "sweeps").iterdir()}
    assert swept.keys() == {"sweep_lambda", "sweep_beta"}
    assert {record["status"] for record in records(root)} == {"done"}
    found, expected = rows(root), rows(whole)
    both = found.keys() & expected.keys()
    assert len(both) == 2 + 2  # two λ, SFT, and the recommender beside
    assert all(found[address].equals(expected[address]) for address in both)
    assert table(root, "sweep_lambda") == [row for row in table(whole) if row["align.objective.lambda"] != 1]
