"""A sweep whose trials only pretend: the queue, the study and the records are real, training and Ray are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raypref.storage.store import Store, write_json
from raypref.sweeps.optuna_study import Study
from raypref.sweeps.queue import TrialQueue
from raypref.sweeps.space import SweepConfig, Trial, trials
from raypref.sweeps.sweep import settings_of
from raypref.sweeps.trial_records import new_record, record_path
from tests.support.tiny_chain import TINY

LAMBDA, BETA = "align.objective.lambda", "align.objective.beta"
Score = Callable[[Trial], float]


def config(**changes: Any) -> SweepConfig:
    given = {"name": "t", "question": "?", "space": {LAMBDA: (0, 1, 2)}, "seeds": 1}
    return SweepConfig.model_validate(given | changes)


class Simulated:
    """One session of a sweep, in a folder that others may have worked in before."""

    def __init__(self, root: Path, sweep: SweepConfig, score: Score = lambda trial: 0.5, storage: str | None = None):
        self.sweep, self.score, self.store, self.folder = sweep, score, Store(root), root / "sweeps" / "t"
        self.ran: list[Trial] = []
        self.records: list[dict[str, Any]] = []
        planned = trials(sweep, TINY, settings_of(sweep, TINY, self.folder))
        self.study = Study(sweep, self.folder, storage)
        self.queue = TrialQueue(sweep, TINY, planned, self.study, self.store, self.folder, self, lambda trial: None)

    def started(self, trial: Trial) -> None:
        self.ran.append(trial)
        write_json(record_path(self.folder, trial.id), new_record(trial) | {"status": "running", "started": "2026"})

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        self.records.append(record)

    def run(self, most: int | None = None, outcome: Callable[[Trial], str] = lambda trial: "done") -> list[Trial]:
        """Trials one at a time until there are none, or `most` of them ran; those that ran."""
        while (most is None or len(self.records) < most) and self.start() is not None:
            self.end(outcome(self.ran[-1]))
        return self.ran

    def start(self) -> dict[str, Any] | None:
        found = self.queue.suggest(f"tune{len(self.ran)}")
        return found if isinstance(found, dict) else None

    def end(self, outcome: str = "done") -> None:
        """As the trial's process and Tune do it; `pruned` and `died` leave the record as it was."""
        trial = self.ran[-1]
        if outcome == "done":
            for stage in (trial.chain.align, trial.chain.evaluate):
                folder = self.store.path(stage.address)
                folder.mkdir(parents=True)
                (folder / "_SUCCESS").write_text(json.dumps({"facts": {}}))
            found = {"validation": {"exact_hr@1": self.score(trial), "valid_ratio": 1 - self.score(trial)}}
            write_json(record_path(self.folder, trial.id), new_record(trial) | {"status": "done", "metrics": found})
        if outcome == "failed":
            write_json(record_path(self.folder, trial.id), new_record(trial) | {"status": "failed", "error": "boom"})
        self.queue.on_trial_complete(f"tune{len(self.ran) - 1}", {}, error=outcome in ("failed", "died"))


def points(ran: list[Trial], key: str = LAMBDA) -> list[Any]:
    return [trial.params[key] for trial in ran]
