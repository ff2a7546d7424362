"""`--add-trials` adds to what was tried; the same command after a kill goes on to where it was going."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from raypref.sweeps.account import more_trials

ARGUMENTS = ["jobs/sweep_joint.py", "--add-trials", "5"]


def command(*arguments: str) -> str:
    return shlex.join(["python", *arguments])


@pytest.mark.parametrize(
    ("last", "statuses", "wanted"),
    [
        (None, [], 5),
        ({"command": command("jobs/sweep_joint.py"), "trials": 3}, ["done"] * 3, 8),
        ({"command": command(*ARGUMENTS), "trials": 8}, ["done"] * 6 + ["running"], 8),  # killed on its way
        ({"command": command(*ARGUMENTS), "trials": 8}, ["done"] * 7 + ["running"], 8),  # killed in its last one
        ({"command": command(*ARGUMENTS), "trials": 8}, ["done"] * 7 + ["failed"], 13),  # it came to its end
    ],
)
def test_trials_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: dict | None, statuses: list[str], wanted: int
) -> None:
    monkeypatch.setattr(sys, "argv", ARGUMENTS)
    (tmp_path / "trials").mkdir()
    for number, status in enumerate(statuses):
        record = {"status": status, "params": {"align.beta": number}}
        (tmp_path / "trials" / f"{number}.json").write_text(json.dumps(record))
    if last:
        (tmp_path / "sweep.json").write_text(json.dumps({"commands": [last]}))
    assert more_trials(tmp_path, len(statuses), 5) == wanted
