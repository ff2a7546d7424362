"""CONTRIBUTING.md says what a new metric and a new objective touch: these diffs, and nothing else, add one each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT, environment

ADDED = {
    "new_metric": (
        ["raypref/evaluation/metrics.py"],
        (
            "import pyarrow as pa; from raypref.evaluation.metrics import EXACT; "
            "rows = pa.table({'rank': [1, 2, 3, 4], 'candidates': [[0] * 4] * 4}); "
            "assert EXACT['exact_upper_half'](rows).tolist() == [1, 1, 0, 0]"
        ),
    ),
    "new_objective": (
        ["raypref/config/objectives.py", "raypref/objectives/__init__.py", "raypref/objectives/losses.py"],
        (
            "from raypref.config.objectives import OBJECTIVE_CONFIGS; from raypref.objectives import OBJECTIVES; "
            "assert OBJECTIVES['hinge'][1] is OBJECTIVE_CONFIGS['hinge']"
        ),
    ),
}


@pytest.mark.parametrize("name", ADDED)
def test_a_diff_adds_it(name: str, tmp_path: Path) -> None:
    touched, check = ADDED[name]
    diff = CHECKOUT / "docs" / "examples" / f"{name}.diff"
    files = [line.removeprefix("+++ b/") for line in diff.read_text().splitlines() if line.startswith("+++ b/")]
    assert files == touched
    shutil.copytree(CHECKOUT / "raypref", tmp_path / "raypref", ignore=shutil.ignore_patterns("__pycache__", "base"))
    subprocess.run(["patch", "-p1", "-s", "-i", str(diff)], cwd=tmp_path, check=True)
    own = environment(tmp_path) | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, env=own, check=True)
