"""What the fault tests share: the results of a sweep that nothing happens to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nodes import ALL, SWEEP, shared_only
from tests.support.processes import CHECKOUT, environment
from tests.support.shared_store import alone


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Without Ray, in one process, on the disk; made once for all workers of the session."""
    own = tmp_path_factory.getbasetemp()
    home = (own if worker_id == "master" else own.parent) / "whole"
    with alone(home):
        if not (home / "made").exists():
            script = str(CHECKOUT / "jobs/sweep_lambda.py")
            arguments = [sys.executable, script, "--root", str(home / "root"), "--no-ray", *SWEEP, *ALL]
            done = subprocess.run(arguments, env=environment(home), capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            (home / "made").touch()
    return home / "root"


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """Its stages before the trials, where a disturbed sweep begins."""
    return shared_only(whole, tmp_path / "root")
