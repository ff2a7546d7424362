"""How each stage runs on Ray.

prepare, features and tries as tasks, tokenize and reference by Ray Data, the expert by both; sft, align, fit and
evaluate by Ray Train.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import ray.train.torch

from raypref.config.loading import dump
from raypref.data.columns import ExampleTable, shard_path, splits_in
from raypref.stages import afar, bodies, group, remote
from raypref.stages.chain import Chain, Stage
from raypref.stages.elastic import ElasticTrainer, scaling
from raypref.stages.shard_reader import ReadShard
from raypref.stages.side_by_side import run_tasks
from raypref.stages.worker import Surroundings, run_stages, training_config, training_folders
from raypref.store import Store
from raypref.training.tasks import table_columns

READ_CPUS = 0  # logical CPUs of a task that reads a shard: training may hold all there are, and must not starve
EARLY_BYTES = 4 << 20  # of a table's files: it is surely small, and is read while a worker imports its libraries
READERS = 1  # such tasks at a time, for each worker; it reads ahead
START_TIMEOUT_S = 300
POLL_S = 0.2


class OnRay:
    """Runs stages of a chain on the Ray cluster this process is connected to."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, run: Chain, stage: Stage) -> None:
        """Run one shared stage unless its output is there."""
        if self.store.done(stage.address):
            return
        {
            "prepare": self._prepare,
            "tokenize": self._tokenize,
            "expert": self._expert,
            "sft": self._train,
            "reference": self._reference,
            "evaluate": self._train,
            "features": self._task,
            "try": self._task,
            "tune": self._tune,
            "fit": self._train,
            "align": self._train,
        }[stage.kind](run, stage)

    def _prepare(self, run: Chain, stage: Stage) -> None:
        arguments = dump(run.config), self.store.location, str(stage.address)
        if alive_nodes() == 1:  # a process of its own would import for longer than it works
            remote.prepare(*arguments)
        else:
            ray.get(ray.remote(num_cpus=1)(remote.prepare).remote(*arguments))

    def _tokenize(self, run: Chain, stage: Stage) -> None:
        paths = stage.input_paths(self.store)
        prepared = paths["prepare"]
        with self.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            bodies.make_tokenizer(run.config, paths).save_pretrained(folder / "tokenizer")
            part = afar.new_part(self.store)
            writer, splits = bodies.token_writer(stage.config)
            facts["tokens"] = map_shards(
                writer,
                (run.config, prepared, afar.share(self.store, folder / "tokenizer", part), folder),
                prepared,
                splits_in(prepared, splits),
                gpus=0,
                send=afar.SendShard(self.store, stage.address),
            )
            afar.forget(self.store, part)

    def _expert(self, run: Chain, stage: Stage) -> None:
        prepared = stage.input_paths(self.store)["prepare"]
        resources = run.config.resources
        with self.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            task = ray.remote(num_cpus=1, num_gpus=resources.gpus_per_worker)(remote.fit_expert)
            part, threads = afar.new_part(self.store), resources.threads or _cores()
            found: Any = ray.get(task.remote(dump(run.config), folder, threads, self.store.location, part))
            facts |= found
            fitted = folder
            if part is not None:
                fitted = self.store.fetched(part)
                shutil.copytree(fitted / "model", folder / "model", dirs_exist_ok=True)
            facts["judged"] = map_shards(
                bodies.ShardExpert,
                (prepared, fitted, folder),
                prepared,
                splits_in(prepared, stage.config["splits"]),
                gpus=0,
                send=afar.SendShard(self.store, stage.address),
            )
            afar.forget(self.store, part)

    def _reference(self, run: Chain, stage: Stage) -> None:
        paths = stage.input_paths(self.store)
        resources = run.config.resources
        with self.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            facts["titles_scored"] = map_shards(
                bodies.ShardScorer,
                (run.config, paths, folder),
                paths["tokenize"],
                splits_in(paths["tokenize"], stage.config["splits"]),
                gpus=resources.gpus_per_worker,
                send=afar.SendShard(self.store, stage.address),
            )

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        """Run tries of baselines, of which none needs another, side by side; each is given back when it is done."""
        yield from run_tasks(list(pairs), self.store)

    def _task(self, run: Chain, stage: Stage) -> None:
        for _ in self.together([(run, stage)]):
            pass

    def _tune(self, run: Chain, stage: Stage) -> None:
        run_stages(run, [stage], Surroundings(self.store))  # files are copied, no more

    def _train(self, run: Chain, stage: Stage) -> None:
        """And, where it is the SFT model, ask it in the same group what the chain wants to know of it."""
        ready = {stage.address, *(s.address for s in run if self.store.done(s.address))}
        asked = [s for s in run.shared if s.kind == "evaluate" and s.inputs.get("model") is stage]
        asked = [s for s in asked if ready.issuperset(needed.address for needed in s.inputs.values())]
        fit(run, [stage, *asked], self.store, str(stage.address).replace("/", "-"))


def map_shards(
    worker: type,
    arguments: tuple[Any, ...],
    table: Path,
    splits: Iterable[str],
    gpus: float,
    first: int | None = None,
    send: afar.SendShard | None = None,
) -> int:
    """Call `worker(*arguments)(split, shard)` for every shard of `splits`, by Ray Data in an actor pool; the sum.

    The worker writes its shard itself, so nothing but counts passes through Ray's object store. `first`: only so many.
    `send`: called with each shard that is written.
    """
    todo = [(split, i) for split in splits for i in range(ExampleTable([table], split).shards)][:first]
    actors = max(1, min(len(todo), int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else _cores()))
    dataset = ray.data.from_items([{"split": s, "shard": i} for s, i in todo], override_num_blocks=len(todo))
    # Ray warns of actors that may restart, and on one node there is nothing to move to.
    restarts: dict[str, Any] = {} if len(ray.nodes()) > 1 else {"max_restarts": 0}
    counted = dataset.map_batches(
        remote.ShardActor,
        fn_constructor_args=(worker, arguments, max(1, _cores() // actors), send),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=gpus,
        **restarts,
    )
    return sum(int(row["count"]) for row in counted.iter_rows())  # Ray's own sum starts processes


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
    first = next(stage for stage in stages if not store.done(stage.address))
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
    os.environ[remote.WATCHED] = str(int(alive_nodes() > 1))
    scratch = store.scratch(stages[0].address)
    remote.take_fault(store, scratch)  # of a driver that was killed; the user may have mended it
    training = trainer(
        group.work,
        train_loop_config={
            "config": dump(run.config),
            "root": store.location,
            "stages": [str(stage.address) for stage in stages],
            "board": board,
            "table": table,
            "early": early,
            "threads": threads or resources.threads or max(1, _cores() // resources.workers),
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
        raise remote.take_fault(store, scratch) or error from error
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


def _addresses(stage: Stage) -> dict[str, str]:
    return {name: str(parent.address) for name, parent in stage.inputs.items()}


def _cores() -> int:
    return os.cpu_count() or 1
