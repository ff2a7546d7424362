"""What is said while a sweep runs: plain lines to a log, a table to a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from raypref.sweeps.progress import LiveTable
from raypref.sweeps.space import trials
from tests.support.simulated import LAMBDA, config
from tests.support.tiny_chain import TINY


def record(hit: float) -> dict:
    return {"status": "done", "seconds": 9.0, "metrics": {s: {"exact_hr@1": hit} for s in ("validation", "test")}}


def test_plain_lines_tell_the_best_the_share_and_the_time_left():
    out = io.StringIO()
    planned = trials(config(), TINY, [{LAMBDA: value} for value in (0, 1, 2)])
    failed = {"status": "failed", "error": "Traceback (most recent call last):\n  a\nboom"}
    with LiveTable(Console(file=out, width=200), 3) as live:
        live.begun -= 60
        for trial, found in zip(planned, (record(0.2), record(0.4), failed)):
            live.started(trial)
            live.ended(trial, found)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[1/3, 33%] recpo λ=0 seed=0")
    assert "left 2.0 min" in lines[0]
    assert "best recpo λ=1 seed=0 (0.400 on validation)" in lines[1]
    assert "why: boom" in lines[2]
    assert "best recpo λ=1 seed=0 (0.400 on validation)" in lines[2]


def test_a_terminal_shows_what_runs_and_what_ended():
    out = io.StringIO()
    planned = trials(config(), TINY, [{LAMBDA: value} for value in range(45)])
    console = Console(file=out, width=120, force_terminal=True)
    live = LiveTable(console, 45)
    for trial in planned[:40]:
        live.started(trial)
        live.ended(trial, record(0.3))
    live.started(planned[40])
    console.print(live._shown())
    text = out.getvalue()
    assert "recpo λ=40 seed=0" in text
    assert "runs" in text
    assert "11 before" in text  # a terminal's height is bounded
    assert "40/45, 89% of the trials" in text
