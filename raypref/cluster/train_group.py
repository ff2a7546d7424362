"""Training and evaluation on Ray: one worker in the calling process, or a group of several; imports nothing heavy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import ray.train.torch

from raypref.cluster.faults import WATCHED, take_fault
from raypref.cluster.shard_reader import ReadShard
from raypref.cluster.work import Work
from raypref.config import RunConfig
from raypref.cores import usable_cores
from raypref.data.columns import ExampleTable
from raypref.stages.stage import Chain, Stage
from raypref.stages.train import training_config, training_folders
from raypref.storage.store import Store
from raypref.training.tasks import table_columns

READ_CPUS = 0  # logical CPUs of a task that reads a shard: training may hold all there are, and must not starve
READERS = 1  # such tasks at a time, for each worker; it reads ahead
SMALL_TABLE = 64 << 20  # bytes on the disk; to start a stream takes Ray seconds and processes, however little flows
START_TIMEOUT_S = 300
POLL_S = 0.2


def fit(
    run: Chain,
    stages: Sequence[Stage],
    store: Store,
    name: str,
    report: Callable[[dict[str, Any]], None] = lambda metrics: None,
    callbacks: Sequence[Any] = (),
    threads: int | None = None,
    board: str | None = None,
) -> dict[str, Any]:
    """Run trained and evaluated stages with the run's number of workers; the facts they leave, by stage kind.

    Args:
        report: called at each validation where this process is the only worker.
        callbacks: Ray Train's, where there is a group of several.
        board: name of an actor whose `show` is told of every step; the workers' logs have it too.

    Raises:
        the worker's own exception where there is one worker or it is a UserError, else Ray's.
    """
    left = [stage for stage in stages if not store.done(stage.address)]
    if left:  # e.g. not the SFT model of a benchmark, which its aligned methods have needed before
        resources = run.config.resources
        datasets = training_table(run, left[0], store)
        threads = threads or resources.threads or max(1, cores() // resources.workers)
        work = Work(run, tuple(stages), store.location, threads, bool(datasets), board)
        if resources.workers == 1:
            fit_here(work, datasets, report)
        else:
            fit_group(work, datasets, store, name, callbacks)
    return {stage.kind: store.manifest(stage.address)["facts"] for stage in stages}


def fit_alone(run: Chain, stages: list[Stage], root: str, name: str) -> None:
    """`fit`, as a task."""
    fit(run, stages, Store(root), name)


def training_table(run: Chain, stage: Stage, store: Store) -> dict[str, ray.data.Dataset]:
    """The stream of a stage's training table; none where it trains on none, or on a small one."""
    if stage.kind not in ("sft", "align"):
        return {}
    folders, columns = training_folders(stage, store), table_columns(training_config(run, stage))
    if ExampleTable(folders, "train", columns).bytes <= SMALL_TABLE:
        return {}
    return {"train": stream_of(folders, columns)}


def fit_here(work: Work, datasets: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Train in this process, which its Tune trial or its task has for itself."""
    from raypref.cluster import remote  # which imports all that training needs

    try:
        ray.train.torch.TorchTrainer(
            lambda: remote.work_alone(work, report),
            datasets=datasets,
            scaling_config=ray.train.ScalingConfig(num_workers=0),
        ).fit()
    finally:
        remote.tidy()


def fit_group(work: Work, datasets: dict[str, Any], store: Store, name: str, callbacks: Sequence[Any]) -> None:
    """Train in a group of processes, which Ray Train starts, and starts again when one of them fails."""
    resources = work.run.config.resources
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_TIMEOUT_S))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(resources.hang_timeout)
    # One machine has nowhere to move to, and the watcher is a process more for every group.
    os.environ[WATCHED] = str(int(alive_nodes() > 1))
    scratch = store.scratch(work.stages[0].address)
    take_fault(store, scratch)  # of a driver that was killed; the user may have mended it
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"work": work},
        datasets=datasets,
        # Every worker reads the whole stream and takes its slice of each global batch (see training/batches.py).
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=scaling(work.run.config, one_machine=store.bucket is not None),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=ray_storage(store, ".ray-train"),
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # its stub is that of the V1 class
                max_failures=resources.max_failures, controller_failure_limit=3
            ),
            callbacks=list(callbacks),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise take_fault(store, scratch) or error from error
    shutil.rmtree(store.root / ".ray-train" / name, ignore_errors=True)


def _worker(arguments: dict[str, Any]) -> None:
    from raypref.cluster import remote

    remote.work_in_group(arguments["work"])


def scaling(config: RunConfig, one_machine: bool) -> ray.train.ScalingConfig:
    """Describe a config's group to Ray Train, which decides how many workers of an elastic one there is room for.

    Args:
        one_machine: whether its workers must share one, as they write parts of one checkpoint into no common folder.
    """
    resources = config.resources
    least, most = resources.min_workers or resources.workers, resources.workers
    numbers: Any = most if least == most else (least, most)  # the stub is that of the V1 class
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return ray.train.ScalingConfig(
        num_workers=numbers,
        use_gpu=bool(gpus),
        resources_per_worker={"CPU": resources.cpus_per_worker} | gpus,
        placement_strategy="STRICT_PACK" if one_machine else "PACK",
    )


def ray_storage(store: Store, name: str) -> str:
    """Where Train or Tune keeps its own state: a folder, as long as no other machine must see it."""
    if store.bucket is None or alive_nodes() == 1:
        return str(store.root / name)
    return f"{store.location}/{name}"


def alive_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def stream_of(folders: list[Path], columns: list[str]) -> ray.data.Dataset:
    """Shards of the training table whose columns lie in `folders`, in stored order."""
    shards = ExampleTable(folders, "train", columns).shards
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    readers = ray.data.TaskPoolStrategy(size=READERS)
    numbers = ray.data.from_items([{"id": i} for i in range(shards)], override_num_blocks=shards)  # `range` takes a CPU
    return numbers.map_batches(
        ReadShard(folders, columns), batch_size=1, batch_format="pyarrow", num_cpus=READ_CPUS, compute=readers
    )


def cores() -> int:
    """Of this machine, those that may be used."""
    return usable_cores()
