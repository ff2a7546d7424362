"""A sweep's trials under Ray Tune: each is a Tune function that runs a Ray Train group."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from raypref.config import RunConfig
from raypref.config.loading import dump
from raypref.errors import UserError
from raypref.stages.agreed import METRIC, SHARE
from raypref.stages.chain import chain
from raypref.stages.train_group import fit, ray_storage
from raypref.store import Store, write_json
from raypref.sweeps.board import open_board, tags_of
from raypref.sweeps.kept_workers import KEEP_S, Kept, keep
from raypref.sweeps.space import SweepConfig, Trial
from raypref.sweeps.trial_records import done_fields, failed, new_record, now, overhead, record_path
from raypref.sweeps.trial_trainer import ReportToTune, TrialTrainer

if TYPE_CHECKING:  # optuna is for the driver alone, this module for every trial's process
    from raypref.sweeps.queue import TrialQueue

TAKES = "takes_kept_workers"  # of an order


def run_trials(queue: TrialQueue, name: str, concurrent: int, verbose: bool, kept: Kept | None = None) -> None:
    """Run a queue's trials, `concurrent` at a time; each leaves a record, and a failed one stops no other.

    Args:
        kept: a group of workers for the trial whose order says so.
    """
    store = queue.store
    function = tune.with_parameters(
        _trial, folder=str(queue.folder.relative_to(store.root)), root=store.location, kept=kept
    )
    tuner = tune.Tuner(
        tune.with_resources(function, {"CPU": 0, "memory": 1 << 20}),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler(queue.sweep, queue.base),
            num_samples=queue.left,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=lambda t: str(t.config["name"]),
            trial_dirname_creator=lambda t: str(t.config["name"]),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=ray_storage(store, ".ray-tune"),
            verbose=1 if verbose else 0,
            # Of a trial whose process died, with its node or alone: it goes on from its last checkpoint.
            failure_config=tune.FailureConfig(max_failures=queue.base.resources.max_failures),
        ),
    )
    tuner.fit()


def scheduler(sweep: SweepConfig, base: RunConfig) -> TrialScheduler:
    """What stops trials early: nothing, or a rule over the validations of a trial's alignment.

    Raises:
        UserError: a pruner with nothing to look at.
    """
    if sweep.pruner == "none":
        return FIFOScheduler()
    validations = base.align.validations
    if validations < 2:
        mend = "add --align.validations 4, or --pruner none"
        raise UserError("a pruner needs two validations of each trial or more", where="align.validations", mend=mend)
    common: dict[str, Any] = {"time_attr": SHARE, "metric": METRIC, "mode": "max", "grace_period": 1 / validations}
    if sweep.pruner == "median":
        return MedianRule(**common, min_samples_required=3)
    return ASHAScheduler(**common, max_t=1, reduction_factor=2, stop_last_trials=False)


class MedianRule(MedianStoppingRule):
    """Ray's own rule, for trials whose last report has no share, and that must not be paused as their process ends."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The trial's earlier reports are kept to compare others with; one without a share Ray could not place."""
        if SHARE in result:
            super().on_trial_complete(tune_controller, trial, result)

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return str(TrialScheduler.CONTINUE)


def write_order(
    trial: Trial, store: Store, folder: Path, sweep: SweepConfig, threads: int, kept: Kept | None = None
) -> None:
    """What a trial's process needs to know, beside the records.

    Args:
        kept: a group of workers that is this trial's if it takes it soon.
    """
    path = _order_path(folder, trial.id)
    order = {
        "config": dump(trial.chain.config),
        "record": new_record(trial),
        "asked": time.time(),
        "threads": threads,
        "tags": tags_of(trial, sweep.name),
        TAKES: kept is not None,
    }
    write_json(path, order)
    store.send(path)
    if kept is not None:
        late = threading.Timer(KEEP_S, _end_unless_taken, [kept, path])
        late.daemon = True
        late.start()


def _end_unless_taken(kept: Kept, order: Path) -> None:
    if json.loads(order.read_text())[TAKES]:
        kept.end()


def _order_path(folder: Path, trial: str) -> Path:
    return folder / "orders" / f"{trial}.json"


def _trial(point: dict[str, Any], folder: str, root: str, kept: Kept | None) -> None:
    """Train and evaluate one setting in one Ray Train group; runs in a Tune process of its own."""
    store = Store(root)
    order = _order_path(store.root / folder, point["trial"])
    store.receive(order)
    given = json.loads(order.read_text())
    if kept is not None and given[TAKES]:
        write_json(order, given | {TAKES: False})  # should this process die, the next one has no claim
        keep(kept)
    record = given["record"] | {"status": "running", "started": now()}

    def note(content: dict[str, Any]) -> None:
        path = record_path(store.root / folder, point["trial"])
        write_json(path, content)
        store.send(path)

    note(record)
    try:
        run = chain(RunConfig.model_validate(given["config"]))
        done_before = all(store.done(stage.address) for stage in run.own)
        with open_board(record["label"], given["tags"]):
            facts = fit(
                run,
                list(run.own),
                store,
                name=record["file_name"],
                trainer=TrialTrainer,
                callbacks=[ReportToTune()],
                threads=given["threads"],
                board=record["label"],
            )
    except Exception as error:  # Train has tried again as often as it may: for Tune the trial is over
        note(failed(record, error))
        return
    ended = time.time()
    record |= done_fields(facts) | {"seconds": round(ended - given["asked"], 2), "ended": now()}
    note(record if done_before else record | overhead(record, facts, given["asked"], ended))
    validation = facts["evaluate"].get("validation") or facts["evaluate"]["test"]
    tune.report({METRIC: validation.get("exact_hr@1", validation.get("generated_hr@1"))})
