"""Nothing is silent: stages tell how far they have come, across processes, and whoever waits says it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from rich.console import Console

from raypref.experiment import run_all
from raypref.narration import Narrator
from raypref.stages.chain import chain
from raypref.storage.headway import Headway, counted, duration, headway, tell, telling
from raypref.storage.store import Store
from tests.support.timed_lines import Timed, longest_silence
from tests.support.tiny_chain import TINY

QUIET_S, BOUND_S = 0.2, 0.5  # as 8 s and 15 s are for a real one


class Log(io.StringIO):
    """A log that notes when each line came."""

    def __init__(self) -> None:
        super().__init__()
        self.times = [time.monotonic()]

    def write(self, text: str) -> int:
        self.times += [time.monotonic()] * text.count("\n")
        return super().write(text)


def silence(log: Log) -> float:
    return longest_silence(Timed(0, "", "", [*log.times, time.monotonic()]))


def made_slowly(store: Store, making: bool, work: Callable[[], None]) -> Log:
    """A chain's first stage by a runner that works for a while."""
    run, log = chain(TINY), Log()
    say = Narrator(Console(file=log, width=200), QUIET_S)

    def runner(run, stage):
        with telling(store, stage.address):
            work()
        with store.writing(stage.address, {}, {}) as (_, facts):
            facts |= {"users": 1, "items": 1, "interactions": 1, "longest_title": 1}
            facts |= {f"{split}_examples": 1 for split in ("train", "validation", "test")}
        return True

    runner.together = None
    run_all([(run, run.prepare)], store, runner, say, say.making if making else lambda stage, store: nullcontext())
    return log


def test_a_slow_stage_is_told_of_and_what_it_tells_is_said(tmp_path):
    def work():
        for _ in counted(range(30), 30, "shard"):
            time.sleep(0.05)

    log = made_slowly(Store(tmp_path), True, work)
    assert silence(log) < BOUND_S
    assert "prepare   shard " in log.getvalue()
    assert log.getvalue().splitlines()[-1].startswith("prepare ")


def test_a_stage_that_tells_nothing_is_not_silent_either(tmp_path):
    log = made_slowly(Store(tmp_path), True, lambda: time.sleep(1.2))
    assert silence(log) < BOUND_S
    assert "at work" in log.getvalue()


def test_silence_would_be_noticed(tmp_path):
    """Planted: a slow stage that nobody speaks of."""
    log = made_slowly(Store(tmp_path), False, lambda: time.sleep(1.2))
    assert silence(log) > BOUND_S


def test_what_is_told_can_be_read_elsewhere_until_the_stage_ends(tmp_path):
    stage = chain(TINY).prepare
    mine, other = Store(tmp_path), Store(tmp_path)
    with telling(mine, stage.address):
        assert headway(other, stage.address) is None
        tell(120, 300, "step", loss=2.31, tokens_per_second=5400.0)
        told = headway(other, stage.address)
        assert told is not None
        assert (told.done, told.total, told.values["loss"]) == (120, 300, 2.31)
        assert str(told) == "step 120/300, loss 2.310, 5,400 tokens/s"  # no pace yet
    assert headway(other, stage.address) is None
    tell(1, 2)  # of nothing that is being made: nobody hears it


def test_time_left_is_what_the_pace_says():
    told = Headway("sft/a", 120, 300, "step", began=1000.0, first=20, told=1050.0)
    assert told.left == pytest.approx(90)  # 100 steps took 50 s, 180 are left
    assert str(told).endswith("90 s left")
    assert [duration(s) for s in (5.4, 99, 100, 5939, 7200)] == ["5 s", "99 s", "2 min", "99 min", "2.0 h"]


def test_a_terminal_has_one_line_that_changes(tmp_path):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=100)
    with Narrator(console, QUIET_S).step("starting Ray"):
        time.sleep(0.4)
    assert "starting Ray, 0 s" in file.getvalue()
    assert "\x1b[2K" in file.getvalue()  # the line is cleared


def test_what_can_t_be_told_stops_nothing(tmp_path):
    log = Log()
    with Narrator(Console(file=log), QUIET_S).during(lambda: 1 / 0):  # type: ignore[arg-type,return-value]
        time.sleep(0.6)
    assert "at work" in log.getvalue()
