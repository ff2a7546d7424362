"""How much runs at once: trials of a sweep, and stages that are tasks of their own."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from raypref.config import RunConfig
from raypref.cores import usable_cores
from raypref.errors import UserError
from raypref.stages.stage import Chain, Stage
from raypref.storage.store import Store


def concurrency(config: RunConfig) -> int:
    """Trials at once: what the config says, else as many as the cluster's GPUs, or cores, hold."""
    resources = config.resources
    if resources.concurrent_trials is not None:
        return resources.concurrent_trials
    if resources.gpus_per_worker:
        held = ray.cluster_resources().get("GPU", 0) / (resources.gpus_per_worker * resources.workers)
        return max(1, int(held))
    nodes = [node for node in ray.nodes() if node["Alive"]]
    cores = usable_cores() if len(nodes) == 1 else int(ray.cluster_resources().get("CPU", 1))
    return max(1, int(cores / (resources.workers * resources.cpus_per_worker)))


def threads_per_worker(config: RunConfig, concurrent: int) -> int:
    """Torch threads of each worker, so that all that run at once share this machine's cores."""
    return config.resources.threads or max(1, usable_cores() // (concurrent * config.resources.workers))


def run_tasks(pairs: Sequence[tuple[Chain, Stage]], store: Store) -> Iterator[Stage]:
    """Run each stage in a task of one worker, as many at once as `concurrency` says; gives each as it is done.

    Raises:
        the stage's own exception where it is a UserError, else Ray's.
    """
    waiting = deque(pairs)
    running: dict[Any, Stage] = {}
    while waiting or running:
        while waiting and len(running) < _at_once(waiting[0][0].config):
            run, stage = waiting.popleft()
            running[_start(run, stage, store, len(pairs))] = stage
        (ready,), _ = ray.wait(list(running))
        try:
            ray.get(ready)
        except RayTaskError as error:
            cause: Any = error.cause
            raise cause if isinstance(cause, UserError) else error from None
        yield running.pop(ready)


def _at_once(config: RunConfig) -> int:
    return concurrency(_one_worker(config))


def _one_worker(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"resources": config.resources.model_copy(update={"workers": 1})})


def _start(run: Chain, stage: Stage, store: Store, stages: int) -> Any:
    from raypref.cluster import remote  # which imports all that stages need

    run = dataclasses.replace(run, config=_one_worker(run.config))
    config = run.config
    task: Any = ray.remote(num_cpus=config.resources.cpus_per_worker, num_gpus=config.resources.gpus_per_worker)(
        remote.run_stage
    )
    threads = threads_per_worker(config, min(stages, concurrency(config)))
    return task.remote(run, stage, store.location, threads)
