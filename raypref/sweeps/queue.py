"""What Tune runs next: the planned trials, then settings that the study proposes, each with all its seeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from raypref.config import RunConfig
from raypref.storage.store import Address, Store
from raypref.sweeps.optuna_study import Study, scores, standard_errors
from raypref.sweeps.space import SweepConfig, Trial, make_trial, setting_key
from raypref.sweeps.trial import point_of
from raypref.sweeps.trial_records import ended_before, final_record, record_path


class Listener(Protocol):
    """Is told of the trials as they go."""

    def started(self, trial: Trial) -> None: ...
    def ended(self, trial: Trial, record: dict[str, Any]) -> None: ...


class TrialQueue(Searcher):
    """A Tune searcher over a sweep's trials; tells the study each setting's mean when its last seed has ended."""

    def __init__(
        self,
        sweep: SweepConfig,
        base: RunConfig,
        planned: Iterable[Trial],
        study: Study,
        store: Store,
        folder: Path,
        listener: Listener,
        prepare: Callable[[Trial], None],
    ) -> None:
        """`prepare` is called with each trial before it is handed to Tune."""
        super().__init__(metric="", mode="max")
        self.sweep, self.base, self.study, self.store, self.folder = sweep, base, study, store, folder
        self.listener, self.prepare = listener, prepare
        self.seeds: dict[str, dict[str, Trial]] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.waiting: deque[Trial] = deque()
        self.running: dict[str, Trial] = {}
        self.makes: dict[str, set[Address]] = {}
        """Shared stages that the trials which run found missing."""
        self.done_before = 0
        self._add(list(planned))

    @property
    def left(self) -> int:
        """Trials that are still to start, if no setting that is yet to be proposed was computed before."""
        return len(self.waiting) + self._unproposed * self.sweep.seeds

    @property
    def _unproposed(self) -> int:
        return 0 if self.sweep.search == "grid" else max(0, self.sweep.trials - len(self.seeds))

    def _add(self, trials: list[Trial]) -> None:
        ended = ended_before(trials, self.store, self.folder, self.sweep.pruner != "none")
        self.done_before += len(ended)
        self.records |= ended
        for trial in trials:
            self.seeds.setdefault(setting_key(trial.params), {})[trial.id] = trial
            if trial.id not in ended:
                self.waiting.append(trial)
        for key in {setting_key(trial.params): None for trial in trials}:
            self._close(key)

    def _propose(self) -> bool:
        """Queue the next proposed setting; False where there is none."""
        if not self._unproposed:
            return False
        setting = self.study.ask(self.seeds)
        if setting is None:
            return False
        first = sum(len(trials) for trials in self.seeds.values())
        self._add([make_trial(self.sweep, self.base, setting, s, first + s) for s in range(self.sweep.seeds)])
        return True

    def _close(self, key: str) -> None:
        """Tell the study of a setting whose trials have all ended."""
        trials = self.seeds[key]
        ended = [self.records[id] for id in trials if id in self.records]
        states = {record["status"] for record in ended}
        setting = next(iter(trials.values())).params
        if "pruned" in states:
            self.waiting = deque(trial for trial in self.waiting if trial.id not in trials)
            self.study.add(setting, None)
        elif len(ended) == len(trials):
            found = scores(ended, self.sweep.metrics) if states == {"done"} else None
            if found is None:
                self.study.fail(setting)
            else:
                self.study.add(setting, found, standard_errors(ended, self.sweep.metrics))

    def suggest(self, trial_id: str) -> Any:
        """The next trial, that there is none, or None: one that runs makes a stage which the next needs too."""
        while not self.waiting:
            if not self._propose():
                return Searcher.FINISHED
        missing = {stage.address for stage in self.waiting[0].chain.shared if not self.store.done(stage.address)}
        if any(missing & made for made in self.makes.values()):
            return None
        trial = self.waiting.popleft()
        self.running[trial_id], self.makes[trial_id] = trial, missing
        self.prepare(trial)
        self.listener.started(trial)
        return point_of(trial)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler looks at what comes in between."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial ended."""
        trial = self.running.pop(trial_id)
        del self.makes[trial_id]
        self.store.receive(record_path(self.folder, trial.id))
        record = final_record(trial, self.folder, stopped=not error and self.sweep.pruner != "none")
        self.records[trial.id] = record
        self._close(setting_key(trial.params))
        self.listener.ended(trial, record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records and the study are saved as they change."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("run the job again: it takes up the sweep from its records")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; this one holds a terminal and a database, and is never restored."""
        return {}
