"""A group of Ray Train workers that runs stages; imports nothing heavy, as every trial has a process for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import ray.train.torch

from raypref.config.loading import dump
from raypref.data.columns import ExampleTable, shard_path
from raypref.stages import group
from raypref.stages.agreed import WATCHED, take_fault
from raypref.stages.chain import Chain, Stage
from raypref.stages.elastic import ElasticTrainer, scaling
from raypref.stages.shard_reader import ReadShard
from raypref.stages.training_inputs import training_config, training_folders
from raypref.store import Store
from raypref.training.tasks import table_columns

READ_CPUS = 0  # logical CPUs of a task that reads a shard: training may hold all there are, and must not starve
EARLY_BYTES = 4 << 20  # of a table's files: it is surely small, and is read while a worker imports its libraries
READERS = 1  # such tasks at a time, for each worker; it reads ahead
START_TIMEOUT_S = 300
POLL_S = 0.2


def fit(
    run: Chain,
    stages: list[Stage],
    store: Store,
    name: str,
    trainer: type[ray.train.torch.TorchTrainer] = ElasticTrainer,
    callbacks: list[Any] | None = None,
    threads: int | None = None,
    board: str | None = None,
) -> dict[str, Any]:
    """Run trained and evaluated stages in one group of Ray Train workers; the facts they leave, by stage kind.

    Args:
        board: name of an actor whose `show` is told of every step; the workers' logs have it too.

    Raises:
        the worker's own exception where it is a UserError, else Ray's.
    """
    resources = run.config.resources
    left = [stage for stage in stages if not store.done(stage.address)]
    if not left:  # e.g. the SFT model of a benchmark, which its aligned methods have needed before
        return {stage.kind: store.manifest(stage.address)["facts"] for stage in stages}
    first = left[0]
    datasets: dict[str, Any] = {}
    table, early = None, False
    if first.kind in ("sft", "align"):
        folders, columns = training_folders(first, store), table_columns(training_config(run, first))
        datasets["train"] = stream_of(folders, columns)
        table = f"{columns} of {[str(folder) for folder in folders]}"  # these are addressed by content
        early = stored_bytes(folders, columns) <= EARLY_BYTES
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_TIMEOUT_S))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(resources.hang_timeout)
    # One machine has nowhere to move to, and the watcher is a process more for every trial.
    os.environ[WATCHED] = str(int(alive_nodes() > 1))
    scratch = store.scratch(stages[0].address)
    take_fault(store, scratch)  # of a driver that was killed; the user may have mended it
    training = trainer(
        group.work,
        train_loop_config={
            "config": dump(run.config),
            "root": store.location,
            "stages": [str(stage.address) for stage in stages],
            "board": board,
            "table": table,
            "early": early,
            "threads": threads or resources.threads or max(1, cores() // resources.workers),
        },
        datasets=datasets,
        # Every worker reads the whole stream and takes its slice of each global batch (see training/batches.py).
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=scaling(
            run.config,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker}
            | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
            # Workers of a group write parts of one checkpoint: without a folder that all see, they share a machine.
            placement_strategy="PACK" if store.bucket is None else "STRICT_PACK",
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=ray_storage(store, ".ray-train"),
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # its stub is that of the V1 class
                max_failures=resources.max_failures, controller_failure_limit=3
            ),
            callbacks=callbacks or [],
        ),
    )
    try:
        training.fit()
    except ray.train.TrainingFailedError as error:
        raise take_fault(store, scratch) or error from error
    shutil.rmtree(store.root / ".ray-train" / name, ignore_errors=True)
    return {stage.kind: store.manifest(stage.address)["facts"] for stage in stages}


def ray_storage(store: Store, name: str) -> str:
    """Where Train or Tune keeps its own state: a folder, as long as no other machine must see it."""
    if store.bucket is None or alive_nodes() == 1:
        return str(store.root / name)
    return f"{store.location}/{name}"


def alive_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def stored_bytes(folders: list[Path], columns: list[str]) -> int:
    """Size of the training table's files."""
    shards = range(ExampleTable(folders, "train", columns).shards)
    return sum(shard_path(folder, "train", i).stat().st_size for folder in folders for i in shards)


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
    """Of this machine."""
    return os.cpu_count() or 1
