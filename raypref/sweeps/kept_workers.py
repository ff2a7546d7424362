"""Training workers that one trial after another uses: a trial's process keeps its group when training ended well.

A worker's process takes some ten CPU seconds to start and to import what it needs, most of what a short trial costs
beside its training. So a group that did what it was asked is kept, with its placement group and its process group; the
next trial of the same process finds it, looks whether it is alive, and goes on in it. A group that failed, or was
stopped before its end, is ended as Ray ends it, and the next trial gets a fresh one. So is one that waits too long:
while it is kept, nobody else can have its CPUs and GPUs, such as a stage that the next trial needs first.

This leans on internals of Ray Train 2.60 (see pyproject.toml's range).
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.exceptions import GetTimeoutError, RayError
from ray.train import DataConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal import constants
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
from ray.train.v2._internal.execution.preemption import _get_draining_nodes
from ray.train.v2._internal.execution.worker_group.placement_group_handle import PlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.state import WorkerGroupContext, WorkerGroupState
from ray.train.v2._internal.execution.worker_group.worker import Worker
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

from raypref.training.allocator import give_back_freed_memory

ANSWER_S = 10.0  # that a kept worker may take to answer or to tidy up; one that takes longer is ended
KEEP_S = 60.0  # that a group waits for its next trial, which comes within seconds or waits for something itself


@dataclass(frozen=True, eq=False)
class Kept:
    """A group without work, and what a trial must want of it to get it."""

    wanted: tuple[Any, ...]
    handle: PlacementGroupHandle
    workers: list[Worker]

    def end(self) -> None:
        """Its processes, and its hold on resources."""
        for worker in self.workers:
            ray.kill(worker.actor)
        self.handle.shutdown()


_kept: list[Kept] = []  # by this process: one at most
_lock = threading.Lock()  # over it


class KeptWorkerGroup(WorkerGroup):
    """Takes up the process's kept group where it fits, and leaves its own behind where it ended well."""

    _found: Kept | None = None
    _wanted: tuple[Any, ...] = ()

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> PlacementGroupHandle:
        self._wanted = wanted_of(worker_group_context)
        self._found = take(self._wanted)
        if self._found is not None:
            return self._found.handle
        return super()._create_placement_group(scaling_config, worker_group_context)

    def _create_workers(self, num_workers: int, *args: Any, **more: Any) -> list[Worker]:
        if self._found is not None:
            return self._found.workers
        return super()._create_workers(num_workers, *args, **more)

    def shutdown(self) -> None:
        """End the group, or keep it: where every worker came to its end without an error."""
        status, state = self._latest_poll_status, self._worker_group_state
        if status and state and status.finished and not status.errors and not status.get_preemption_info():
            parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
            self._worker_group_state = _Keeping(**parts, wanted=self._wanted)
        super().shutdown()


@dataclass(frozen=True)
class _Keeping(WorkerGroupState):
    """A state whose shutdown keeps the workers."""

    wanted: tuple[Any, ...] = ()

    def shutdown(self) -> None:
        kept = Kept(self.wanted, self.placement_group_handle, self.workers)
        ray.kill(self.sync_actor)
        try:
            ray.get([worker.actor.shutdown.remote() for worker in self.workers], timeout=ANSWER_S)
            tidied: Any = [worker.execute_async(tidy) for worker in self.workers]
            left = sum(ray.get(tidied, timeout=ANSWER_S))
        except (RayError, GetTimeoutError):
            left = None
        if left == 0:
            keep(kept)
        else:
            kept.end()


def wanted_of(context: WorkerGroupContext) -> tuple[Any, ...]:
    """What two groups must have in common for one to serve as the other; the workers' environment too."""
    resources = tuple(sorted(context.resources_per_worker.items()))
    variables = tuple(sorted(constants.get_env_vars_to_propagate().items()))
    return context.num_workers, resources, context.placement_strategy, str(context.label_selector), variables


def keep(kept: Kept) -> None:
    """For the next trial; it is ended if that does not come within `KEEP_S`."""
    with _lock:
        _kept.append(kept)
    idle = threading.Timer(KEEP_S, _end_unless_taken, [kept])
    idle.daemon = True  # it does not hold up the process's end, which ends the group too
    idle.start()


def give() -> Kept | None:
    """The group that this process keeps, from now on somebody else's."""
    with _lock:
        return _kept.pop() if _kept else None


def release() -> None:
    """End the group that this process keeps, if there is one."""
    if kept := give():
        kept.end()


def _end_unless_taken(kept: Kept) -> None:
    with _lock:
        if kept not in _kept:
            return
        _kept.remove(kept)
    kept.end()


def take(wanted: tuple[Any, ...]) -> Kept | None:
    """The kept group, if it is what is wanted, alive and not about to go; any other is ended first."""
    kept = give()
    if kept is None:
        return None
    try:
        if kept.wanted == wanted and not _leaving(kept):
            ray.get([worker.actor.get_metadata.remote() for worker in kept.workers], timeout=ANSWER_S)
            return kept
    except (RayError, GetTimeoutError):
        logging.getLogger(__name__).warning("a kept group of training workers is gone; starting another")
    kept.end()
    return None


def _leaving(kept: Kept) -> bool:
    """Whether a node under the group is to be taken away: a trial that began there would soon have to move."""
    return not _get_draining_nodes().keys().isdisjoint(worker.metadata.node_id for worker in kept.workers)


def tidy() -> int:
    """In a worker: let go of the last trial's memory and folder; how many weights could not be let go.

    An engine may hold its model by a circle through C++ that no collector sees (DeepSpeed's ZeRO 3 does): a worker that
    trains one model after another would run out of memory, and must not be kept.
    """
    os.chdir(tempfile.gettempdir())  # Ray made the last trial's folder the working directory, and it will be removed
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return sum(isinstance(held, torch.nn.Parameter) for held in gc.get_objects())


class _KeptBackend(_TorchBackend):
    """Sets up a process group where there is none, and leaves it where it is."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if not all(worker_group.execute(_in_process_group)):
            super().on_start(worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """A group that is ended takes its process group with it."""


def _in_process_group() -> bool:
    return dist.is_initialized()


class KeptTorchConfig(TorchConfig):
    """Torch's back end for workers that are kept."""

    @property
    def backend_cls(self) -> type[_KeptBackend]:
        return _KeptBackend


class _Shards:
    """Gives a worker its view of each data set; Ray has an actor for this, which it needs to split a stream."""

    def __init__(self, by_rank: Sequence[dict[str, Any]]) -> None:
        self.by_rank = by_rank

    def get_dataset_shard(self, wanted: Any) -> Any:
        return self.by_rank[wanted.world_rank][wanted.dataset_name]


class WholeDatasets(DatasetsCallback):
    """Hands every worker the whole of each stream, without an actor in between."""

    def before_init_train_context(self, workers: list[Worker]) -> dict[str, list[Any]]:
        config: DataConfig = self._data_config
        nodes = [worker.metadata.node_id for worker in workers]
        shards = config.configure(self._datasets, len(workers), worker_handles=None, worker_node_ids=nodes)
        return {"dataset_shard_provider": [_Shards(shards)] * len(workers)}


class _QuietCleaner(PlacementGroupCleaner):
    """Ray's cleaner warns, as no controller should die; a trial's process does, when there is no trial left for it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        logging.getLogger("ray.train.v2._internal.execution.controller.placement_group_cleaner").setLevel(logging.ERROR)


_cleaners: list[Any] = []  # of this process: one at most


class OneCleaner(PlacementGroupCleanerCallback):
    """One cleaner for all trials of a process: it frees the resources of a kept group when the process has ended."""

    def after_controller_start(self, train_run_context: Any) -> None:
        self._controller_actor_id = ray.get_runtime_context().get_actor_id()
        if _cleaners and not _watches(_cleaners[0]):
            _cleaners.clear()
        if not _cleaners:
            cleaner: Any = ray.remote(num_cpus=0)(_QuietCleaner).options(
                lifetime="detached", resources={HEAD_NODE_RESOURCE_NAME: 0.001}, scheduling_strategy="DEFAULT"
            )
            _cleaners.append(
                cleaner.remote(
                    controller_actor_id=self._controller_actor_id,
                    check_interval_s=self._check_interval_s,
                    get_actor_timeout_s=self._get_actor_timeout_s,
                    stop_timeout=self._stop_timeout,
                )
            )
            _cleaners[0].start_monitoring.remote()
        self._cleaner = _cleaners[0]

    def _stop_cleaner(self) -> None:
        """It goes on as long as the process that it watches."""


def _watches(cleaner: Any) -> bool:
    """Whether a cleaner that was started is still there."""
    try:
        return bool(ray.get(cleaner.start_monitoring.remote(), timeout=ANSWER_S))  # nothing where it has begun
    except (RayError, GetTimeoutError):
        return False


class KeepingController(TrainController):
    """A controller whose workers may be those of the trial before."""

    worker_group_cls = KeptWorkerGroup


def keeping(callbacks: list[RayTrainCallback], datasets: dict[str, Any], run_context: Any) -> list[RayTrainCallback]:
    """Ray's own callbacks, with those for data sets and for cleaning up replaced."""
    replaced: dict[type, RayTrainCallback] = {
        DatasetsCallback: WholeDatasets(train_run_context=run_context, datasets=datasets),
        PlacementGroupCleanerCallback: OneCleaner(),
    }
    return [replaced.get(type(callback), callback) for callback in callbacks]
