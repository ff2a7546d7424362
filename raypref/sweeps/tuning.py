"""A sweep's trials under Ray Tune: how many at once, with which resources, and what stops them early."""

from __future__ import annotations

import os
import time
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from raypref.cluster.faults import METRIC, SHARE
from raypref.cluster.train_group import ray_storage
from raypref.config import RunConfig
from raypref.config.training import ResourceConfig
from raypref.errors import UserError
from raypref.sweeps.queue import TrialQueue
from raypref.sweeps.space import SweepConfig
from raypref.sweeps.trial import ASSIGNMENT, run_trial
from raypref.sweeps.trial_records import file_name


def run_trials(queue: TrialQueue, concurrent: int, threads: int, verbose: bool) -> None:
    """Run a queue's trials, `concurrent` at a time; each leaves a record, and a failed one stops no other."""
    store, resources = queue.store, queue.base.resources
    function = tune.with_parameters(
        run_trial,
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
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune's would have an interrupted sweep end as if it were done
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
        hint = "add --align.validations 4, or --pruner none"
        raise UserError("a pruner needs two validations of each trial or more", where="align.validations", hint=hint)
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
