"""A trial whose Train controller runs in its own process, through real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_a_stopped_trial_leaves_nothing_and_its_process_to_the_next(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYPREF_"))}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("stopped_trials.py")), str(tmp_path)],
        env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["errors"] == 0
    assert seen["last"] == [1, 3]  # the first was stopped at its second report, the other came to its end
    assert seen["left"] == []
    pids = [(tmp_path / f"pids-{trial}").read_text().split() for trial in (0, 1)]
    assert len(pids[0]) == len(pids[1]) == 1  # neither was started twice
    assert pids[0] == pids[1]
