"""The sweep's Optuna study: it proposes settings, and keeps what each scored for optuna-dashboard and for next time.

The trials' records are the truth; the study is an index of them that each run brings up to date. So a space can be
widened, seeds added and the storage deleted, and nothing is lost or repeated.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from raypref.errors import UserError
from raypref.evaluation.splits import choosing_split
from raypref.results.labels import same
from raypref.storage.store import digest
from raypref.sweeps.space import Range, SweepConfig, Value, contains, setting_key

logger = logging.getLogger(__name__)

JOURNAL = "optuna.journal"
ERRORS = "standard_error"
STORAGE_FAULTS = (optuna.exceptions.OptunaError, OSError, ValueError, KeyError)
ATTEMPTS = 200  # draws of a setting that was tried before, in a row, until the space counts as exhausted


class Study:
    """Settings of one space with what they scored; proposes new ones.

    Args:
        storage: URL of a database that SQLAlchemy knows; None: a journal file in the sweep's folder.
    """

    def __init__(self, sweep: SweepConfig, folder: Path, storage: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep = sweep
        self.distributions = {key: _distribution(values) for key, values in sweep.space.items()}
        asked = {"space": {k: repr(v) for k, v in self.distributions.items()}, "metrics": sweep.metrics}
        name = f"{folder.name}-{digest(asked | {'seeds': sweep.seeds})}"
        try:
            self.study = optuna.create_study(
                storage=_storage(folder, storage),
                study_name=name,
                directions=["maximize"] * len(sweep.metrics),
                load_if_exists=True,
            )
        except (ImportError, ValueError, optuna.exceptions.OptunaError) as error:
            hint = "give a URL such as sqlite:////shared/optuna.db, and install its driver; or leave --storage out"
            raise UserError(f"the study's storage can't be opened: {error}", where=str(storage), hint=hint) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names(list(sweep.metrics))
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)  # its process is gone: its setting is planned again
        self.study.sampler = Rounded(_sampler(sweep, len(self.study.trials)))
        self._asked: dict[str, optuna.Trial] = {}
        self._lost = False

    def add(self, setting: Mapping[str, Value], values: Sequence[float] | None, errors: Sequence[float] = ()) -> None:
        """A setting that ended, with what it scored; None: it was pruned.

        `errors`: standard errors of the scores over the seeds, kept with the trial for optuna-dashboard. No sampler of
        Optuna takes one for each trial; `gp` estimates the noise of all from the scores.

        One of another space is left out; one whose metric is no number has failed.
        """
        if values is not None and not all(map(math.isfinite, values)):  # a metric of users of whom there are none
            self.fail(setting)
            return
        with self._kept():
            self._add(setting, values, errors)

    def _add(self, setting: Mapping[str, Value], values: Sequence[float] | None, errors: Sequence[float]) -> None:
        key = setting_key(setting)
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        if key in self._asked:
            if errors:
                self._asked[key].set_user_attr(ERRORS, list(errors))
            self.study.tell(self._asked.pop(key), values=None if values is None else list(values), state=state)
            return
        if not contains(self.sweep, setting) or self._has(setting):
            return
        params = {name: self._choice(name, value) for name, value in setting.items()}
        scored = None if values is None else list(values)
        trial = create_trial(
            params=params,
            distributions=self.distributions,
            values=scored,
            state=state,
            user_attrs={ERRORS: list(errors)} if errors else {},
        )
        self.study.add_trial(trial)

    def fail(self, setting: Mapping[str, Value]) -> None:
        """A setting that was proposed and could not be finished."""
        if (trial := self._asked.pop(setting_key(setting), None)) is not None:
            with self._kept():
                self.study.tell(trial, state=TrialState.FAIL)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Around what writes to the study: a storage that fails ends no sweep, which has its records without it."""
        try:
            yield
        except STORAGE_FAULTS as error:
            if not self._lost:
                told = "the Optuna study can't be kept (%s); all trials have records, the next run makes it of them"
                logger.warning(told, error)
            self._lost = True

    def ask(self, known: Collection[str]) -> dict[str, Value] | None:
        """A setting whose key is not among `known`; None where the sampler finds no other, or the storage fails."""
        with self._kept():
            for _ in range(ATTEMPTS):
                trial = self.study.ask(self.distributions)
                setting: dict[str, Value] = {name: trial.params[name] for name in self.distributions}
                if setting_key(setting) not in known:
                    self._asked[setting_key(setting)] = trial
                    return setting
                self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _has(self, setting: Mapping[str, Value]) -> bool:
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return any(setting_key(trial.params) == setting_key(setting) for trial in ended)

    def _choice(self, name: str, value: Value) -> Value:
        """The space's own spelling of a value: 1 for 1.0."""
        values = self.sweep.space[name]
        if isinstance(values, Range):
            return int(value) if values.whole else float(value)
        return next(choice for choice in values if same(choice, value))


def scores(records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[float] | None:
    """Means over a setting's seeds of each metric on validation; None where a record lacks one.

    Where there is no validation split the test split decides, as in the answer.
    """
    means = []
    for metric in metrics:
        found = [record["metrics"][choosing_split(record["metrics"])].get(metric) for record in records]
        if any(value is None for value in found):
            return None
        means.append(math.fsum(found) / len(found))
    return means


def standard_errors(records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[float]:
    """Of each metric's mean over a setting's seeds, on validation; none with one seed."""
    if len(records) < 2:
        return []
    found = [[scores([record], [metric]) for record in records] for metric in metrics]
    values = [[score[0] for score in of if score is not None] for of in found]
    return [stdev(of) / math.sqrt(len(of)) for of in values if len(of) > 1]


def _distribution(values: tuple[Value, ...] | Range) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(float(values.low), float(values.high), log=values.log)


def _sampler(sweep: SweepConfig, seed: int) -> optuna.samplers.BaseSampler:
    """`seed`: how many trials the study has, as a seed that repeated itself would repeat its first draws."""
    if sweep.search == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8)
    if sweep.search == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=8, deterministic_objective=False)
    if sweep.search == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, sweep.trials // 4)))
    return optuna.samplers.RandomSampler(seed=seed)


def _storage(folder: Path, url: str | None) -> BaseStorage:
    if url is not None:
        return RDBStorage(url)
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / JOURNAL
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()  # of a run that is writing a line just now
    try:
        if journal.exists() and not _whole(journal):
            aside = next(path for n in range(1, 10_000) if not (path := journal.with_suffix(f".damaged-{n}")).exists())
            journal.rename(aside)
            logger.warning("%s is damaged, is kept as %s and made anew of the trials' records", journal, aside.name)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(journal)))


def _whole(journal: Path) -> bool:
    """Whether each line is an entry of Optuna's; a torn last one would be found by the entry that follows it."""
    try:
        for line in journal.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or not json.loads(line):
                return False
        JournalStorage(JournalFileBackend(str(journal))).get_all_studies()  # entries may contradict each other
    except (*STORAGE_FAULTS, AssertionError, AttributeError, TypeError, IndexError):
        return False
    return True


class Rounded(BaseSampler):
    """Another sampler's proposals, rounded (see `rounded`): labels, tables and answers then name a setting in full."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self.sampler.sample_relative(study, trial, search_space)
        return {name: rounded(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        drawn = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return rounded(drawn, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.sampler.after_trial(study, trial, state, values)


def rounded(value: Any, distribution: BaseDistribution) -> Any:
    """To three significant digits on a logarithmic scale, else to a hundredth of the range or finer; never outside it.

    Only fractions are rounded: 2.6829 of 0 to 4 is 2.68, 0.0023456 of 1e-4 to 1 (logarithmic) is 0.00235.
    """
    if not isinstance(distribution, FloatDistribution):
        return value
    low, high = distribution.low, distribution.high
    digits = -math.floor(math.log10((high - low) / 100))
    near = float(f"{value:.3g}") if distribution.log else round(value, digits)
    return min(max(near, low), high)
