"""How each stage runs on Ray.

prepare, features and tries as tasks, tokenize and reference by Ray Data, the expert by both; sft, align, fit and
evaluate by Ray Train, with one worker in a task. On one node without a GPU, prepare, the expert, tables of a few shards
and what one worker trains are the driver's own work: a process of their own would import for longer than it works.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from ray.exceptions import RayTaskError

from raypref.cluster import remote
from raypref.cluster.side_by_side import run_tasks
from raypref.cluster.train_group import alive_nodes, cores, fit, fit_alone
from raypref.data.columns import ExampleTable, splits_in
from raypref.errors import UserError
from raypref.stages.stage import Chain, Shards, Stage, WorkerContext
from raypref.stages.worker import run_stages
from raypref.storage import sharing
from raypref.storage.headway import counted, telling
from raypref.storage.lease import leased
from raypref.storage.store import MANIFEST, Store
from raypref.training.allocator import give_back_freed_memory

FEW_SHARDS = 8  # of at most 2,048 examples


class OnRay:
    """Runs stages of a chain on the Ray cluster this process is connected to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.made: set[str] = set()

    def __call__(self, run: Chain, stage: Stage) -> bool:
        """Run one shared stage unless its output is there, or another process makes it; whether it was run.

        In the group that trains a model it is asked at once what the chain wants to know of it.
        """
        if self.store.done(stage.address):
            return str(stage.address) in self.made  # along with another
        asked = self._asked(run, stage)
        with leased(self.store, stage.address, *(one.address for one in asked)):
            if missing := not self.store.done(stage.address):
                self._make(run, stage, asked)
                self.made |= {str(stage.address), *(str(one.address) for one in asked)}
        give_back_freed_memory()  # the trials need it
        return missing

    def _asked(self, run: Chain, stage: Stage) -> list[Stage]:
        """Evaluations of a stage's model that need nothing else which is missing."""
        ready = {stage.address, *(s.address for s in run if self.store.done(s.address))}
        asked = [s for s in run.shared if s.kind == "evaluate" and s.inputs.get("model") is stage]
        return [s for s in asked if ready.issuperset(needed.address for needed in s.inputs.values())]

    def _make(self, run: Chain, stage: Stage, asked: list[Stage]) -> None:
        run = run.ready(self.store)
        if stage.of.runs == "group":
            self._group(run, [stage, *asked])
            return
        if stage.of.runs == "worker":
            list(run_tasks([(run, stage)], self.store))
            return
        runs: dict[str, Callable[[Chain, Stage], None]] = {
            "task": self._task,
            "here": self._here,
            "shards": self._shards,
        }
        runs[stage.of.runs](run, stage)

    def _here(self, run: Chain, stage: Stage) -> None:
        run_stages(run, [stage], WorkerContext(self.store))

    def _task(self, run: Chain, stage: Stage) -> None:
        if _alone():
            self._here(run, stage)
        else:
            ray.get(ray.remote(num_cpus=1)(remote.run_stage).remote(run, stage, self.store.location))

    def _shards(self, run: Chain, stage: Stage) -> None:
        body, inputs, resources = stage.of.body, stage.input_paths(self.store), run.config.resources
        assert isinstance(body, Shards)
        with (
            telling(self.store, stage.address),
            self.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, facts),
        ):
            part, made = sharing.new_part(self.store), folder
            if body.first is not None:
                facts |= self._first(body, run, inputs, folder, part)
                made = folder if part is None else self.store.fetched(part)
                if made is not folder:
                    shutil.copytree(made, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
            facts[body.counted] = map_shards(
                body.worker(stage),
                (run.config, inputs, made, folder),
                inputs["prepare"],
                splits_in(inputs["prepare"], body.splits(stage)),
                gpus=resources.gpus_per_worker if body.trained else 0,
                threads=resources.threads,
                send=sharing.SendShard(self.store, stage.address),
            )
            sharing.forget(self.store, part)

    def _first(
        self, body: Shards, run: Chain, inputs: dict[str, Path], folder: Path, part: str | None
    ) -> dict[str, Any]:
        """What all shards need, made here or by a task with a training worker's GPU."""
        resources = run.config.resources
        arguments = body, run, inputs, folder, resources.threads or cores(), self.store.location, part
        if not body.trains or _suffices_here(resources.gpus_per_worker):
            return remote.first(*arguments)
        task = ray.remote(num_cpus=1, num_gpus=resources.gpus_per_worker)(remote.first)
        facts: dict[str, Any] = ray.get(task.remote(*arguments))
        return facts

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        """Run tries of baselines, of which none needs another, side by side; each is given back when it is done."""
        pairs = list(pairs)
        with leased(self.store, *(stage.address for _, stage in pairs)):
            missing = [pair for pair in pairs if not self.store.done(pair[1].address)]
            yield from (stage for _, stage in pairs if self.store.done(stage.address))
            yield from run_tasks(missing, self.store)

    def _group(self, run: Chain, stages: list[Stage]) -> None:
        name = str(stages[0].address).replace("/", "-")
        resources = run.config.resources
        if resources.workers > 1:
            fit(run, stages, self.store, name)  # Ray Train tries again by itself
            return
        for left in reversed(range(resources.max_failures + 1)):
            try:
                self._alone(run, stages, name)
                break
            except UserError:
                raise
            except Exception as error:
                if not left:
                    raise
                logging.getLogger(__name__).warning("%s failed, and is tried again: %r", name, error)

    def _alone(self, run: Chain, stages: list[Stage], name: str) -> None:
        """With one worker: here, or in a task where that has more to offer than this process."""
        resources = run.config.resources
        if _suffices_here(resources.gpus_per_worker):
            fit(run, stages, self.store, name)
            return
        task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=0)(
            fit_alone
        )
        try:
            ray.get(task.remote(run, stages, self.store.location, name))
        except RayTaskError as error:
            cause: Any = error.cause
            raise cause if isinstance(cause, UserError) else error from None


def map_shards(
    worker: Callable[..., Any],
    arguments: tuple[Any, ...],
    table: Path,
    splits: Iterable[str],
    gpus: float,
    first: int | None = None,
    threads: int | None = None,
    send: sharing.SendShard | None = None,
) -> int:
    """Call `worker(*arguments)(split, shard)` for every shard of `splits`, by Ray Data in an actor pool; the sum.

    The worker writes its shard itself, so nothing but counts passes through Ray's object store. Few shards on one node
    without a GPU are this process's own work, with so many `threads`, else one for each core. `first`: only so many.
    `send`: called with each shard that is written.
    """
    todo = [(split, i) for split in splits for i in range(ExampleTable([table], split).shards)][:first]
    if len(todo) <= FEW_SHARDS and _suffices_here(gpus):
        here = remote.ShardActor(worker, arguments, threads or cores(), send)
        return sum(here.count(split, shard) for split, shard in counted(todo, len(todo), "shard"))
    actors = max(1, min(len(todo), int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else cores()))
    dataset = ray.data.from_items([{"split": s, "shard": i} for s, i in todo], override_num_blocks=len(todo))
    # Ray warns of actors that may restart, and on one node there is nothing to move to.
    restarts: dict[str, Any] = {} if len(ray.nodes()) > 1 else {"max_restarts": 0}
    done = dataset.map_batches(
        remote.ShardActor,
        fn_constructor_args=(worker, arguments, max(1, cores() // actors), send),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=gpus,
        **restarts,
    )
    rows = counted(done.iter_rows(), len(todo), "shard")
    return sum(int(row["count"]) for row in rows)  # Ray's own sum starts processes


def _suffices_here(gpus: float) -> bool:
    """Whether a stage may run in the driver itself: it is where a task would go, and asks for no GPU."""
    return not gpus and _alone() and not torch.cuda.is_available()


def _alone() -> bool:
    """Whether this is the only node, and one that does work; beside a head that does none, others are yet to come."""
    return alive_nodes() == 1 and ray.cluster_resources().get("CPU", 0) >= 1
