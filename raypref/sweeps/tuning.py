"""A sweep's trials under Ray Tune: each is a Tune function that trains, or starts a Ray Train group that does."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.train import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from raypref.cluster.faults import METRIC, SHARE
from raypref.cluster.train_group import fit, ray_storage
from raypref.config import RunConfig
from raypref.config.training import ResourceConfig
from raypref.errors import UserError
from raypref.stages.stage import Chain
from raypref.storage.lease import leased
from raypref.storage.store import Store, write_json
from raypref.sweeps.board import open_board, tag_name, tags_of
from raypref.sweeps.space import SweepConfig, Trial
from raypref.sweeps.trial_records import done_fields, failed, file_name, new_record, now, overhead, record_path

if TYPE_CHECKING:  # optuna is for the driver alone, this module for every trial's process
    from raypref.sweeps.queue import TrialQueue

ASSIGNMENT = "trial"  # of Tune's config for a trial
STOP_S = 30  # what Tune waits for a stopped trial to end, before it starts a new process for the next


def run_trials(queue: TrialQueue, concurrent: int, threads: int, verbose: bool) -> None:
    """Run a queue's trials, `concurrent` at a time; each leaves a record, and a failed one stops no other."""
    store, resources = queue.store, queue.base.resources
    function = tune.with_parameters(
        _trial,
        folder=str(queue.folder.relative_to(store.root)),
        root=store.location,
        sweep=queue.sweep.name,
        threads=threads,
    )
    tuner = tune.Tuner(
        tune.with_resources(function, needs(resources)),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler(queue.sweep, queue.base),
            num_samples=queue.left,
            max_concurrent_trials=concurrent,
            reuse_actors=keeps_process(resources),
            trial_name_creator=lambda t: file_name(t.config[ASSIGNMENT].trial),
            trial_dirname_creator=lambda t: file_name(t.config[ASSIGNMENT].trial),
        ),
        run_config=tune.RunConfig(
            name=f"{queue.folder.name}-{int(time.time())}",
            storage_path=ray_storage(store, ".ray-tune"),
            verbose=1 if verbose else 0,
            # Of a trial that failed, or whose process died, with its node or alone: it goes on from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=resources.max_failures),
        ),
    )
    tuner.fit()


def needs(resources: ResourceConfig) -> dict[str, float]:
    """What a trial's own process takes of the cluster: a worker's part, or next to nothing beside a group."""
    if resources.workers > 1:
        return {"CPU": 0, "memory": 1 << 20}  # Tune refuses to be told of no resource
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return {"CPU": resources.cpus_per_worker} | gpus


def keeps_process(resources: ResourceConfig) -> bool:
    """Whether one trial after another may run in one process.

    DeepSpeed's ZeRO 3 never lets go of the weights, by a circle through C++ that no collector sees.
    """
    return not (resources.engine == "deepspeed" and resources.zero_stage == 3)


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


@dataclass(frozen=True)
class Assignment:
    """A trial as its process gets it, beside the setting; shown by its name where Tune shows a config."""

    trial: Trial
    asked: float
    """When the driver asked for it, in seconds since the epoch."""

    def __repr__(self) -> str:
        return self.trial.label


def point_of(trial: Trial) -> dict[str, Any]:
    """What Tune knows of a trial: the setting itself, under the last part of each key where that tells them apart."""
    names = [tag_name(key) for key in trial.params]
    setting = {n if names.count(n) == 1 else key: value for n, (key, value) in zip(names, trial.params.items())}
    return {**setting, "seed": trial.seed, ASSIGNMENT: Assignment(trial, time.time())}


def _trial(point: dict[str, Any], folder: str, root: str, sweep: str, threads: int) -> None:
    """Train and evaluate one setting; runs in a Tune process, which may run others before and after."""
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(STOP_S))
    trial, asked, store = point[ASSIGNMENT].trial, point[ASSIGNMENT].asked, Store(root)
    record = new_record(trial) | {"status": "running", "started": now()}

    def note(content: dict[str, Any]) -> None:
        path = record_path(store.root / folder, trial.id)
        write_json(path, content)
        store.send(path)

    note(record)
    run = trial.chain
    alone = run.config.resources.workers == 1
    try:
        done_before = all(store.done(stage.address) for stage in run.own)
        if alone:
            _run_missing(run, store, threads)
        with leased(store, *(stage.address for stage in run.own)), open_board(trial.label, tags_of(trial, sweep)):
            facts = fit(
                run,
                run.own,
                store,
                name=file_name(trial),
                report=_report,
                callbacks=[] if alone else [TuneReportCallback()],
                threads=threads,
                board=trial.label,
            )
    except (UserError, TrainingFailedError) as error:  # of this setting, or tried again by Train as often as it may
        note(failed(record, error))
        return
    except Exception as error:
        note(failed(record, error))
        raise  # Tune may try again
    ended = time.time()
    record |= done_fields(facts) | {"seconds": round(ended - asked, 2), "ended": now()}
    note(record if done_before else record | overhead(record, facts, asked, ended))
    validation = facts["evaluate"].get("validation") or facts["evaluate"]["test"]
    tune.report({METRIC: validation.get("exact_hr@1", validation.get("generated_hr@1"))})


def _report(metrics: dict[str, Any]) -> None:
    """A validation, to Tune; the last one without its share, as that trial is as good as done."""
    print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
    tune.report({name: value for name, value in metrics.items() if name != SHARE or value < 1})


def _run_missing(run: Chain, store: Store, threads: int) -> None:
    """Stages before a trial's own that a search's setting is the first to need, with the trial's CPUs or GPU."""
    missing = [stage for stage in run.shared if not store.done(stage.address)]
    if missing:
        import torch

        from raypref.stages.in_process import InProcess

        torch.set_num_threads(threads)
        for stage in missing:
            InProcess(store)(run, stage)
