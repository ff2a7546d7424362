"""A trial's board: an actor that carries the trial's name in the dashboard and shows its live metrics.

Each trial has one, and its processes send it what they measure; so a trial is one series of each metric in Prometheus,
whoever measured it. When the trial ends its board goes, and the job's driver shows its scores until the job ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from raypref.evaluation.splits import reported_split
from raypref.results.labels import value_text
from raypref.sweeps.meters import Board, Meters
from raypref.sweeps.methods import METHOD
from raypref.sweeps.space import METHOD_KEY, SweepConfig, Trial


def tags_of(trial: Trial, sweep: str) -> dict[str, str]:
    """What tells a trial's series from others: its name, method, seed, and the value of each swept key.

    Ray's metrics take ASCII alone, so the name says `lambda`, not `λ`.
    """
    swept = {tag_name(key): value_text(value) for key, value in trial.params.items()}
    shown = [f"{name}={value}" for name, value in swept.items() if name not in (METHOD, tag_name(METHOD_KEY))]
    label = " ".join([trial.method, *shown, f"seed={trial.seed}"])
    tags = {**swept, "trial": label, "sweep": sweep, "method": trial.method, "seed": str(trial.seed)}
    return {name: text.encode("ascii", "backslashreplace").decode() for name, text in tags.items()}


def tag_name(key: str) -> str:
    """A config key's last part, as Prometheus allows a label: `u_beta`."""
    return re.sub(r"\W", "_", key.rsplit(".", 1)[-1])


@contextmanager
def open_board(label: str, tags: dict[str, str]) -> Iterator[None]:
    """A board, an actor of name `label`, for as long as the trial runs."""
    board: Any = ray.remote(num_cpus=0)(Board).options(name=label).remote(tags)
    try:
        yield
    finally:
        ray.kill(board)


class FinishedTrials:
    """The job's own gauges: the scores of every trial that ended in this run, as long as the job lives."""

    def __init__(self, sweep: SweepConfig) -> None:
        swept = tuple(tag_name(key) for key in sweep.space)
        self.sweep, self.meters = sweep.name, Meters(tuple(dict.fromkeys((*swept, "trial", "sweep", "method", "seed"))))

    def started(self, trial: Trial) -> None:
        """Its board shows it."""

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        """Show the test scores of a trial that ended well."""
        metrics = record.get("metrics", {})
        test = metrics.get(reported_split(metrics), {})
        values = {"hr@1": test.get("generated_hr@1", test.get("exact_hr@1")), "valid_ratio": test.get("valid_ratio")}
        validation = {"validation_hr@1": metrics.get("validation", {}).get("exact_hr@1")}
        self.meters.show(values | validation, tags_of(trial, self.sweep))
