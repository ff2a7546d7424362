"""`raypref submit` goes by the job's own end, not by that of its log's stream: a Ray that breaks off is played here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raypref.commands import submit
from tests.support.processes import CHECKOUT

Asked = list[str]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Asked]]:
    """Plays Ray: exit codes of `job submit` and `job logs`, and what it says of the job when asked (None: nothing)."""

    def play(codes: list[int], said: list[str | None]) -> list[Asked]:
        commands: list[Asked] = []
        really = subprocess.run

        def run(command: Asked, **options: Any) -> subprocess.CompletedProcess[str]:
            if command[0] == "git":  # asked which files go with a job
                return really(command, **options)
            commands.append(command)
            if "-c" not in command:
                return subprocess.CompletedProcess(command, codes.pop(0))
            status = said.pop(0)
            output = f"a warning\n{status}\n" if status else ""
            return subprocess.CompletedProcess(command, 0 if status else 1, output, "")

        monkeypatch.setattr(submit, "provenance", lambda: {"git": None})
        monkeypatch.setattr(submit.subprocess, "run", run)
        monkeypatch.setattr(submit, "shown", lambda command, verbose: run(command).returncode)
        monkeypatch.setattr(submit, "STATUS_PAUSE", 0)
        return commands

    return play


@pytest.mark.parametrize(
    ("codes", "said", "expected"),
    [
        ([0], ["SUCCEEDED 0"], 0),
        ([1], ["FAILED 3"], 3),  # trials failed: Ray's own code is 1
        ([1], ["FAILED None"], 1),  # it never began
        ([0], ["STOPPED None"], 1),  # Ray's own code is 0
        ([0, 0], ["RUNNING None", "SUCCEEDED 0"], 0),  # the stream broke off
        ([1, 1, 0], ["PENDING None", "RUNNING None", "SUCCEEDED 0"], 0),
        ([0, 0], ["RUNNING None", "FAILED 2"], 2),
        ([0], [None, "SUCCEEDED 0"], 0),  # an answer came at the second attempt
        ([2], [None, None, None], 2),  # never submitted
        ([0], [None, None, None], 1),  # the head is gone
    ],
)
def test_the_job_s_status_is_what_counts(
    ray: Callable[..., list[Asked]], codes: list[int], said: list[str | None], expected: int
) -> None:
    commands = ray(codes, said)
    assert submit.follow("http://127.0.0.1:1", Path("jobs/sweep_lambda.py"), ["--seeds", "1"]) == expected
    assert not codes
    assert not said
    first = commands[0]
    job = first[first.index("--submission-id") + 1]
    assert first[-4:] == ["python", "jobs/sweep_lambda.py", "--seeds", "1"]
    assert all(command[-1] == job for command in commands[1:])  # all that follows is about that job


def test_after_a_job_that_fails_none_is_submitted(
    ray: Callable[..., list[Asked]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    commands = ray([0], ["STOPPED None"])
    jobs = CHECKOUT / "jobs"
    scripts = (jobs / "sweep_lambda.py", jobs / "sweep_rho.py")
    assert submit.submit(submit.Submit(scripts), []) == 1
    assert len(commands) == 2


@pytest.mark.parametrize("verbose", [False, True])
def test_ray_s_own_notices_are_shown_where_asked(capfd: pytest.CaptureFixture[str], verbose: bool) -> None:
    lines = [
        "2026-11-27 00:01:22,712\tINFO cli.py:42 -- \x1b[37mJob submission server address\x1b[39m: x",
        "2026-11-27 00:01:33,668\tSUCC cli.py:66 -- \x1b[32m-------\x1b[39m",
        "Running entrypoint for job sweep: python jobs/x.py",
        "sft             25.1 s  sft/smoke-125724763c84  4 steps",
        "2026-11-27 00:01:22,718\tWARNING working_dir.py:101 -- a warning",
        "INFO of the job's own",
    ]
    code = submit.shown([sys.executable, "-c", f"print({chr(10).join(lines)!r}); raise SystemExit(7)"], verbose)
    said = capfd.readouterr().out.splitlines()
    assert code == 7
    assert said == (lines if verbose else lines[3:])


def test_a_job_that_says_nothing_yet_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(submit, "QUIET_S", 0.2)
    with caplog.at_level("INFO", logger="raypref"):
        submit.shown([sys.executable, "-c", "import time; time.sleep(1.5); print('first'); time.sleep(1)"], False)
    told = [record.message for record in caplog.records]
    assert 2 <= len(told) <= 20
    assert all("Ray is taking up the job" in line for line in told)
