"""How each stage runs on Ray.

prepare, features and tries as tasks, tokenize and reference by Ray Data, the expert by both; sft, align, fit and
evaluate by Ray Train, with one worker in a task. On one node without a GPU, prepare, the expert, tables of a few shards
and what one worker trains are the driver's own work: a process of their own would import for longer than it works.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from ray.exceptions import RayTaskError

from raypref.data.columns import ExampleTable, splits_in
from raypref.errors import UserError
from raypref.stages import afar, bodies, remote
from raypref.stages.chain import Chain, Stage
from raypref.stages.side_by_side import run_tasks
from raypref.stages.train_group import alive_nodes, cores, fit
from raypref.stages.worker import Surroundings, run_stages
from raypref.store import Store
from raypref.training.allocator import give_back_freed_memory

FEW_SHARDS = 8  # of at most 2,048 examples


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
        give_back_freed_memory()  # the trials need it

    def _prepare(self, run: Chain, stage: Stage) -> None:
        arguments = run, stage, self.store.location
        if _alone():
            remote.prepare(*arguments)
        else:
            ray.get(ray.remote(num_cpus=1)(remote.prepare).remote(*arguments))

    def _tokenize(self, run: Chain, stage: Stage) -> None:
        paths = stage.input_paths(self.store)
        prepared = paths["prepare"]
        with self.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            facts |= bodies.write_tokenizer(run.config, paths, folder / "tokenizer")
            part = afar.new_part(self.store)
            writer, splits = bodies.token_writer(stage.config)
            facts["tokens"] = map_shards(
                writer,
                (run.config, prepared, afar.share(self.store, folder / "tokenizer", part), folder),
                prepared,
                splits_in(prepared, splits),
                gpus=0,
                threads=run.config.resources.threads,
                send=afar.SendShard(self.store, stage.address),
            )
            afar.forget(self.store, part)

    def _expert(self, run: Chain, stage: Stage) -> None:
        prepared = stage.input_paths(self.store)["prepare"]
        resources = run.config.resources
        with self.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            part, threads = afar.new_part(self.store), resources.threads or cores()
            arguments = run.config, folder, threads, self.store.location, part
            if _suffices_here(resources.gpus_per_worker):
                facts |= remote.fit_expert(*arguments)
            else:
                task = ray.remote(num_cpus=1, num_gpus=resources.gpus_per_worker)(remote.fit_expert)
                found: Any = ray.get(task.remote(*arguments))
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
                threads=threads,
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
                threads=resources.threads,
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
        stages, name = [stage, *asked], str(stage.address).replace("/", "-")
        resources = run.config.resources
        if resources.workers > 1:
            fit(run, stages, self.store, name)  # Ray Train tries again by itself
            return
        for left in reversed(range(resources.max_failures + 1)):
            try:
                self._train_alone(run, stages, name)
                break
            except UserError:
                raise
            except Exception as error:
                if not left:
                    raise
                logging.getLogger(__name__).warning("%s failed, and is tried again: %r", stage.address, error)

    def _train_alone(self, run: Chain, stages: list[Stage], name: str) -> None:
        """With one worker: here, or in a task where that has more to offer than this process."""
        resources = run.config.resources
        if _suffices_here(resources.gpus_per_worker):
            fit(run, stages, self.store, name)
            return
        task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=0)(
            remote.fit_alone
        )
        try:
            ray.get(task.remote(run, stages, self.store.location, name))
        except RayTaskError as error:
            cause: Any = error.cause
            raise cause if isinstance(cause, UserError) else error from None


def map_shards(
    worker: type,
    arguments: tuple[Any, ...],
    table: Path,
    splits: Iterable[str],
    gpus: float,
    first: int | None = None,
    threads: int | None = None,
    send: afar.SendShard | None = None,
) -> int:
    """Call `worker(*arguments)(split, shard)` for every shard of `splits`, by Ray Data in an actor pool; the sum.

    The worker writes its shard itself, so nothing but counts passes through Ray's object store. Few shards on one node
    without a GPU are this process's own work, with so many `threads`, else one for each core. `first`: only so many.
    `send`: called with each shard that is written.
    """
    todo = [(split, i) for split in splits for i in range(ExampleTable([table], split).shards)][:first]
    if len(todo) <= FEW_SHARDS and _suffices_here(gpus):
        here = remote.ShardActor(worker, arguments, threads or cores(), send)
        return sum(here.count(split, shard) for split, shard in todo)
    actors = max(1, min(len(todo), int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else cores()))
    dataset = ray.data.from_items([{"split": s, "shard": i} for s, i in todo], override_num_blocks=len(todo))
    # Ray warns of actors that may restart, and on one node there is nothing to move to.
    restarts: dict[str, Any] = {} if len(ray.nodes()) > 1 else {"max_restarts": 0}
    counted = dataset.map_batches(
        remote.ShardActor,
        fn_constructor_args=(worker, arguments, max(1, cores() // actors), send),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=gpus,
        **restarts,
    )
    return sum(int(row["count"]) for row in counted.iter_rows())  # Ray's own sum starts processes


def _addresses(stage: Stage) -> dict[str, str]:
    return {name: str(parent.address) for name, parent in stage.inputs.items()}


def _suffices_here(gpus: float) -> bool:
    """Whether a stage may run in the driver itself: it is where a task would go, and asks for no GPU."""
    return not gpus and _alone() and not torch.cuda.is_available()


def _alone() -> bool:
    """Whether this is the only node, and one that does work; beside a head that does none, others are yet to come."""
    return alive_nodes() == 1 and ray.cluster_resources().get("CPU", 0) >= 1
