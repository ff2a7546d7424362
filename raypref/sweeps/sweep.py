"""A whole sweep: shared stages once, then the trials, then what they say."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from raypref.config import RunConfig
from raypref.errors import UserError
from raypref.expectation import expected_line
from raypref.experiment import DISK_PER_RUN, Runner, run_all
from raypref.narration import Narrator
from raypref.provenance import provenance
from raypref.results.labels import setting_text
from raypref.shortages import check_data
from raypref.stages.chain import chain
from raypref.stages.stage import Chain
from raypref.storage.store import Store, digest, disk_faults, write_json
from raypref.sweeps.account import account_of, beside, commands, more_trials
from raypref.sweeps.dry_run import print_dry_run
from raypref.sweeps.options import SweepOptions
from raypref.sweeps.progress import LiveTable
from raypref.sweeps.space import (
    SweepConfig,
    Trial,
    Value,
    check_ends,
    contains,
    default_setting,
    grid,
    instead_of_search,
    trials,
    with_default_first,
)
from raypref.sweeps.trial_records import (
    failed,
    finished_before,
    new_record,
    now,
    read_record,
    read_records,
    record_path,
)

RAY_FIRST = ("raypref.cluster.connect", "raypref.sweeps.tuning", "raypref.sweeps.queue", "raypref.sweeps.optuna_study")
"""What a sweep on Ray imports, the first before any other import of ray: seconds, which are told of."""


def sweep_folder(sweep: SweepConfig, base: RunConfig, store: Store) -> Path:
    """One folder for a question asked of one base config: a wider space or more seeds extend it."""
    asked: dict[str, Any] = {"base": chain(base).evaluate.address.key, "keys": sorted(sweep.space)}
    asked |= {"whole_seeds": True} if sweep.whole_seeds else {}
    return store.root / "sweeps" / f"{sweep.name}-{base.name}-{digest(asked)}"


def settings_of(sweep: SweepConfig, base: RunConfig, folder: Path) -> list[dict[str, Value]]:
    """The settings that are known before anything runs, the default one first: a grid's, or those tried before."""
    if sweep.search == "grid":
        return grid(sweep, base)
    check_ends(sweep, base)
    tried = [record["params"] for record in read_records(folder) if isinstance(record.get("params"), dict)]
    return with_default_first(default_setting(sweep, base), (params for params in tried if contains(sweep, params)))


def run_sweep(
    sweep: SweepConfig, base: RunConfig, options: SweepOptions, origins: dict[str, str], console: Console
) -> Path | None:
    """Run what is not done yet; the folder with the results, None for a dry run.

    Ray is started only where there is something to compute.
    """
    store = Store(options.root)
    folder = sweep_folder(sweep, base, store)
    store.receive(folder)
    check_decidable(sweep, options)
    settings = settings_of(sweep, base, folder)
    if options.decide is not None:
        sweep = sweep.model_copy(update={"seeds": 1})
    if options.limit is not None:
        settings = settings[: options.limit]
        sweep = sweep.model_copy(update={"trials": min(sweep.trials, options.limit)})
    if options.add_trials:
        sweep = sweep.model_copy(update={"trials": more_trials(folder, len(settings), options.add_trials)})
    planned = trials(sweep, base, settings)
    if options.dry_run:
        print_dry_run(console, sweep, planned, store, origins, folder, options.thorough)
        return None
    check_data(planned[0].chain, store)
    store.check_space(DISK_PER_RUN * (1 + len(planned)) // 4)
    with disk_faults(store.root):
        if options.decide is None:
            _carry_out(sweep, base, planned, store, folder, options, console)
        else:
            _decide(sweep, base, settings, store, folder, options, console)
    return folder


def _decide(
    sweep: SweepConfig,
    base: RunConfig,
    settings: list[dict[str, Value]],
    store: Store,
    folder: Path,
    options: SweepOptions,
    console: Console,
) -> None:
    """Round by round, what `raypref.sweeps.rounds` asks for; the account keeps what was decided."""
    from raypref.sweeps.rounds import Rounds

    rounds = Rounds(sweep, base, settings, options.max_seeds, options.decide or 0.0)
    while planned := rounds.planned():
        console.print(rounds.line(), highlight=False, soft_wrap=True)
        most = sweep.model_copy(update={"seeds": max(trial.seed for trial in planned) + 1})
        _carry_out(most, base, planned, store, folder, options, console)
        rounds.look(folder, store.location)
        account = json.loads((folder / "sweep.json").read_text())
        write_json(folder / "sweep.json", account | {"decided": rounds.account()})
    console.print(rounds.line(), highlight=False, soft_wrap=True)


def check_decidable(sweep: SweepConfig, options: SweepOptions) -> None:
    """Refuse margins that are none, and rounds of seeds where settings are not known beforehand."""
    if options.equivalent <= 0:
        raise UserError("a margin is above 0", where="--equivalent", hint="give --equivalent 0.01")
    if options.decide is None:
        return
    if not 0 < options.decide < 1:
        raise UserError("a margin of HR@1 lies between 0 and 1", where="--decide", hint="give --decide 0.01")
    if options.seeds is not None:
        raise UserError("--decide adds seeds as they are needed", where="--seeds", hint="give --max-seeds instead")
    if sweep.search != "grid":
        raise UserError(
            "seeds are added to settings that are known beforehand, and a search draws them", where="--decide",
            hint=instead_of_search(sweep),
        )  # fmt: skip


def _carry_out(
    sweep: SweepConfig,
    base: RunConfig,
    planned: list[Trial],
    store: Store,
    folder: Path,
    options: SweepOptions,
    console: Console,
) -> None:
    console.print(f"{sweep.question}\nresults under {folder}", highlight=False, soft_wrap=True)
    chains = [*(trial.chain for trial in planned), *beside(sweep, base).values()]
    pairs = [(run, stage) for run in chains for stage in run]
    told = f"{len(planned)} trials{default_beside(sweep, base)}; {expected_line(pairs, store, options.ray)}"
    console.print(told, highlight=False, soft_wrap=True)
    account = account_of(sweep, base, planned[0].chain)
    account["stages"] = sorted({str(stage.address) for run in chains for stage in run})  # so that they stay
    account["equivalent"] = options.equivalent if options.decide is None else options.decide
    write_json(folder / "sweep.json", account | {"commands": commands(folder, account)})
    if options.ray:
        with Narrator(console).step("importing Ray"):
            for module in RAY_FIRST:
                importlib.import_module(module)
        _run(sweep, base, planned, store, folder, options, console)
    else:
        _run_here(sweep, base, planned, store, folder, console)


def default_beside(sweep: SweepConfig, base: RunConfig) -> str:
    """Says that the default setting is run though it is none of the sweep's values; else empty."""
    default = default_setting(sweep, base)
    return "" if contains(sweep, default) else f", among them the default {setting_text(default)} to compare with"


def _run_here(
    sweep: SweepConfig, base: RunConfig, planned: list[Trial], store: Store, folder: Path, console: Console
) -> None:
    """A grid's trials in this process, one after the other."""
    from raypref.stages.in_process import InProcess
    from raypref.sweeps.kept_models import ModelKeeper

    if sweep.search != "grid":
        raise UserError("a search needs Ray", where="--no-ray", hint=instead_of_search(sweep))
    left = [trial for trial in planned if finished_before(trial, store, folder) is None]
    runner = InProcess(store)
    keeper = ModelKeeper(planned[0].chain.config.resources.keep_models, store)
    narrator = Narrator(console)
    _run_shared(left, store, narrator, runner, beside=beside(sweep, base).values())
    with LiveTable(console, len(left), store) as live:
        for trial in left:
            live.started(trial)
            started, since = now(), time.time()
            try:
                for stage in trial.chain.own:
                    runner(trial.chain, stage)
            except UserError as error:  # of this setting alone: the others go on
                write_json(record_path(folder, trial.id), failed(new_record(trial), error))
            if record := finished_before(trial, store, folder):
                record |= {"seconds": round(time.time() - since, 2), "started": started}
                write_json(record_path(folder, trial.id), record)
            live.ended(trial, record or read_record(folder, trial))
            keeper.ended(trial, record or read_record(folder, trial))


def _run(
    sweep: SweepConfig,
    base: RunConfig,
    planned: list[Trial],
    store: Store,
    folder: Path,
    options: SweepOptions,
    console: Console,
) -> None:
    from raypref.cluster import connect  # isort: skip  # must precede any other import of ray
    from raypref.cluster.side_by_side import concurrency, threads_per_worker
    from raypref.sweeps.kept_models import ModelKeeper
    from raypref.sweeps.optuna_study import Study
    from raypref.sweeps.queue import TrialQueue
    from raypref.sweeps.trackers import Tracker
    from raypref.sweeps.tuning import run_trials, scheduler

    scheduler(sweep, base)  # what this and the trackers refuse must be known before the shared stages run
    trackers = [Tracker(kind, folder, store) for kind in options.mirror]
    say = Narrator(console)
    concurrent = 1

    def prepare(trial: Trial) -> None:
        if base.resources.workers > 1:  # the process of one that is its own worker does it itself, with what it has
            _run_shared([trial], store, say, only_missing=True)

    study = Study(sweep, folder, options.storage)
    listeners = Listeners()
    queue = TrialQueue(sweep, base, planned, study, store, folder, listeners, prepare)
    needed = [trial for trial in planned if trial in queue.waiting] or planned[:1]
    others = beside(sweep, base).values()
    shared = [*(stage for trial in needed for stage in trial.chain.shared), *(stage for run in others for stage in run)]
    missing = any(not store.done(stage.address) for stage in shared)
    if queue.left or missing:
        with say.step("starting Ray"):
            importing = begin_importing("raypref.stages.policy")
            connect.connect(options.verbose, {"sweep": sweep.name, **_metadata(base)})
            importing.join()  # transformers finds its parts as they are asked for, and not for two threads at once
        concurrent = max(1, min(concurrency(base), queue.left))
    _run_shared(needed, store, say, beside=others)
    if not queue.left:
        say(f"trials    all {queue.done_before} done before")
        return
    say(f"trials    {queue.done_before} done before, {queue.left} to run, {concurrent} at a time")
    from raypref.sweeps.board import FinishedTrials

    finished = FinishedTrials(sweep)
    with LiveTable(console, queue.left, store) as live:
        listeners.all = [live, finished, *trackers, ModelKeeper(base.resources.keep_models, store)]
        run_trials(queue, concurrent, threads_per_worker(base, concurrent), options.verbose)


def begin_importing(module: str) -> threading.Thread:
    """In a thread, while this process waits for others to start; to be joined before anything else needs the module."""
    thread = threading.Thread(target=importlib.import_module, args=[module])
    thread.start()
    return thread


class Listeners:
    """Tells several of the trials as they go."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def started(self, trial: Trial) -> None:
        for listener in self.all:
            listener.started(trial)

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        for listener in self.all:
            listener.ended(trial, record)


def _run_shared(
    planned: list[Trial],
    store: Store,
    say: Narrator,
    runner: Runner | None = None,
    only_missing: bool = False,
    beside: Iterable[Chain] = (),
) -> None:
    """The stages before alignment, by address: one serves all trials, unless the sweep varies something before it.

    `runner`: None runs them on Ray. `beside`: chains that are run whole along with them.
    """
    if runner is None:
        from raypref.cluster.on_ray import OnRay

        runner = OnRay(store)
    needed = {str(stage.address): (trial.chain, stage) for trial in planned for stage in trial.chain.shared}
    needed |= {str(stage.address): (run, stage) for run in beside for stage in run if str(stage.address) not in needed}
    pairs = [pair for pair in needed.values() if not only_missing or not store.done(pair[1].address)]
    run_all(pairs, store, runner, say, say.making)


def _metadata(base: RunConfig) -> dict[str, str]:
    """What the dashboard's job page says of a sweep."""
    return {
        "method": base.align.objective.name,
        "dataset": base.data.source.kind,
        "preset": base.name,
        "git": str(provenance()["git"]),
    }
