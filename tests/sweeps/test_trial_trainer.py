"""Trials whose Train controller runs in their own process and whose workers are kept, through real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment
from tests.support.stopped_trials import (
    AFTER_DEATH,
    BEFORE,
    ELASTIC,
    FIRST,
    LAST,
    LEAVES_WEIGHTS,
    OF_TWO,
    SECOND,
    STOPPED,
    WAITS,
)

PATIENCE = int(os.environ.get("RAYPREF_PATIENCE", "500"))  # seconds for what takes two minutes on an idle machine


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE + 100)
def test_workers_are_kept_where_they_can_be_and_nothing_is_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.stopped_trials", str(tmp_path)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["errors"] == 0
    assert seen["last"] == [1, *[3] * LAST]  # the first was stopped at its second report, the others came to their end
    assert seen["left"] == []
    assert seen["open"] == []  # metrics too are for this machine alone
    trials, workers = (
        [(tmp_path / f"{kind}-{trial}").read_text().split() for trial in range(LAST + 1)]
        for kind in ("trial", "worker")
    )
    assert all(len(started) == 1 for started in (*trials, *workers))  # nothing was started twice
    assert len({*map(tuple, trials)}) == 1  # one process for all trials
    assert workers[STOPPED] == [(tmp_path / f"worker-{BEFORE}").read_text().strip()]  # of what ran before the trials
    assert workers[FIRST] != workers[STOPPED]
    assert workers[SECOND] == workers[FIRST]
    assert workers[AFTER_DEATH] != workers[SECOND]
    assert workers[WAITS] != workers[AFTER_DEATH]  # whose group was ended for what needed its CPU
    assert workers[OF_TWO] != workers[WAITS]
    assert (tmp_path / f"size-{ELASTIC}").read_text() == "2"  # there is room for three, which are none of its sizes
    assert workers[LAST] != workers[LEAVES_WEIGHTS]
