"""What the pruners do with a trial's reports: Ray Tune's own rules, asked as Tune asks them, without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from raypref.cluster.faults import METRIC, SHARE
from raypref.sweeps.tuning import scheduler
from tests.support.simulated import LAMBDA, config
from tests.support.tiny_chain import changed

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
VALIDATIONS = 4
AT = (0.25, 0.5, 0.75)  # the shares at which a trial of four validations can be stopped: the last one ends it anyway
GOOD = (0.30, 0.31, 0.32, 0.33)  # HR@1 at the first validation; each gains as much in every later one


@dataclass(eq=False)
class TuneTrial:
    """As much of Tune's trial as a scheduler looks at."""

    trial_id: str
    status: str = "RUNNING"


@dataclass
class Controller:
    """As much of Tune's controller: the trials that run or wait to be run."""

    live: tuple[TuneTrial, ...] = ()

    def get_live_trials(self) -> list[TuneTrial]:
        return list(self.live)


class Asked:
    """A pruner of a search, as `run_trials` hands it to Tune."""

    def __init__(self, pruner: str) -> None:
        asked = config(search="tpe", space={LAMBDA: {"low": 0.0, "high": 4.0}}, pruner=pruner)
        self.rule: Any = scheduler(asked, changed(align__validations=VALIDATIONS))

    def added(self, name: str) -> TuneTrial:
        trial = TuneTrial(name)
        self.rule.on_trial_add(Controller(), trial)
        return trial

    def told(self, trial: TuneTrial, score: float, share: float | None) -> str:
        """The decision on a report; that at a trial's end has no share, so that no rule looks at it."""
        report = {METRIC: score} | ({} if share is None else {SHARE: share})
        return str(self.rule.on_trial_result(Controller(), trial, report))


@pytest.fixture(params=["asha", "median"])
def asked(request: pytest.FixtureRequest) -> Asked:
    return Asked(request.param)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_the_bad_trial_is_stopped_at_its_first_validation_and_the_good_ones_go_on(asked: Asked, late: int) -> None:
    """Whenever it comes: when the others have validated once, twice or three times."""
    good = {asked.added(f"good{number}"): score for number, score in enumerate(GOOD)}
    for number, share in enumerate(AT[: late + 1]):
        assert [asked.told(trial, score + number / 100, share) for trial, score in good.items()] == [CONTINUE] * 4
    assert asked.told(asked.added("bad"), 0.05, AT[0]) == STOP
    for number, share in enumerate(AT[late + 1 :], late + 1):
        assert [asked.told(trial, score + number / 100, share) for trial, score in good.items()] == [CONTINUE] * 4
    assert [asked.told(trial, score, None) for trial, score in good.items()] == [CONTINUE] * 4


def test_a_trial_that_turns_bad_is_stopped_later(asked: Asked) -> None:
    """It begins as the others do, and is overtaken."""
    good = {asked.added(f"good{number}"): score for number, score in enumerate(GOOD)}
    turning = asked.added("turning")
    for trial, score in good.items():
        assert asked.told(trial, score, AT[0]) == CONTINUE
    assert asked.told(turning, GOOD[-1], AT[0]) == CONTINUE
    for trial, score in good.items():
        assert asked.told(trial, score + 0.4, AT[1]) == CONTINUE
    assert asked.told(turning, GOOD[0], AT[1]) == STOP


def test_nothing_is_stopped_before_there_is_something_to_compare_with(asked: Asked) -> None:
    assert [asked.told(asked.added("first"), 0.01, share) for share in AT] == [CONTINUE] * 3


def test_trials_that_ended_count_too(asked: Asked) -> None:
    """Their last report, which Tune hands over at the end, has no share."""
    for number, score in enumerate(GOOD):
        trial = asked.added(f"good{number}")
        assert [asked.told(trial, score, share) for share in AT] == [CONTINUE] * 3
        asked.rule.on_trial_complete(Controller(), trial, {METRIC: score, "done": True})
    assert asked.told(asked.added("bad"), 0.05, AT[0]) == STOP
    assert asked.told(asked.added("best"), 0.6, AT[0]) == CONTINUE


def test_no_trial_is_paused_while_another_waits_for_its_process(asked: Asked) -> None:
    first, second = asked.added("first"), TuneTrial("second", status="PENDING")
    report = {METRIC: 0.3, SHARE: AT[0]}
    assert asked.rule.on_trial_result(Controller((first, second)), first, report) == CONTINUE
