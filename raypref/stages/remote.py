"""What runs in Ray's other processes, short work in the driver: training workers, tasks, what fills columns."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch

from raypref.config import RunConfig
from raypref.errors import UserError
from raypref.stages import afar, bodies
from raypref.stages.agreed import FAULT, METRIC, SHARE, WATCHED, read_fault
from raypref.stages.chain import chain, data_config
from raypref.stages.heartbeat import Heartbeat
from raypref.stages.stream import stream
from raypref.stages.worker import Surroundings, run_stages
from raypref.store import Store, write_json
from raypref.training.allocator import forget_peak_memory


def work(arguments: dict[str, Any]) -> None:
    """A Ray Train worker: the stages it is given; reports at each validation and at the end."""
    torch.set_num_threads(arguments["threads"])
    forget_peak_memory()  # and what else a trial before this one left in this process
    _told.clear()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    context = ray.train.get_context()
    run = chain(RunConfig.model_validate(arguments["config"]))
    store = Store(arguments["root"])
    by_address = {str(stage.address): stage for stage in run}
    print(f"{arguments['board'] or ''} {', '.join(arguments['stages'])}", flush=True)
    scratch = store.scratch(by_address[arguments["stages"][0]].address)
    if fault := read_fault(store, scratch):
        raise fault  # Ray tries again whatever the error; this one is not mended by that
    around = Surroundings(
        store=store,
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        stream=lambda: stream(arguments["table"]),
        report=report,
        watch=watcher(arguments["board"] if context.get_world_rank() == 0 else None),
        beat=Heartbeat(run.config.resources.hang_timeout),
        leaving=leaving,
    )
    try:
        facts = run_stages(run, [by_address[a] for a in arguments["stages"]], around)
    except UserError as error:  # Ray passes exceptions on as text; this one must reach the user as it is
        with contextlib.suppress(OSError, UserError):  # the fault may be that nothing can be written
            write_json(scratch / FAULT, [error.what, error.where, error.mend])
            store.send(scratch / FAULT)
        raise
    summary = {f"{kind}_{k}": v for kind, f in facts.items() for k, v in _flat(f)}
    # Tune wants its metric in every report; the last one is of all held-out users, by the weights that are kept.
    for name in ("generated_hr@1", "exact_hr@1"):
        if f"evaluate_validation_{name}" in summary:
            summary[METRIC] = summary[f"evaluate_validation_{name}"]
    ray.train.report(summary)


_told: list[bool] = []


def leaving() -> bool:
    """Whether Ray says, for the first time, that a node of this group is about to be taken away."""
    if os.environ.get(WATCHED) != "1" or _told or ray.train.get_preemption_info() is None:
        return False
    _told.append(True)
    print("a node of this group is about to go: checkpoint", flush=True)
    return True


def watcher(board: str | None) -> Callable[[dict[str, Any]], None]:
    """Passes numbers on to a trial's board, without waiting for it."""
    if board is None:
        return lambda values: None
    show: Any = ray.get_actor(board).show
    return lambda values: show.remote(values)


def report(metrics: dict[str, Any]) -> None:
    """To Train, and through it to Tune; the last validation without its share, as that trial is as good as done."""
    print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
    ray.train.report({name: value for name, value in metrics.items() if name != SHARE or value < 1})


def _flat(facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        if isinstance(value, dict):
            yield from ((f"{key}_{k}", v) for k, v in value.items() if isinstance(v, int | float))
        elif isinstance(value, int | float):
            yield key, value


def prepare(config: dict[str, Any], root: str, address: str) -> None:
    """A prepare stage, as a task."""
    run, store = chain(RunConfig.model_validate(config)), Store(root)
    stage = next(stage for stage in run if str(stage.address) == address)
    with store.writing(stage.address, stage.config, {}) as (folder, facts):
        facts |= bodies.prepare(data_config(run.config, stage.address != run.prepare.address), folder)


def run_stage(config: dict[str, Any], root: str, address: str, threads: int) -> None:
    """One stage of a run, as a task."""
    torch.set_num_threads(threads)
    run = chain(RunConfig.model_validate(config))
    stage = next(stage for stage in run if str(stage.address) == address)
    run_stages(run, [stage], Surroundings(Store(root)))


def fit_expert(config: dict[str, Any], folder: Path, threads: int, root: str, part: str | None) -> dict[str, Any]:
    """The expert's fit, as a task; its facts. `part`: where other machines find it, in an object store."""
    torch.set_num_threads(threads)
    facts = bodies.fit_expert(RunConfig.model_validate(config), folder)
    afar.share(Store(root), folder, part)
    return facts


class ShardActor:
    """Holds a shard worker of `bodies` for one shard after another."""

    def __init__(self, worker: type, arguments: tuple[Any, ...], threads: int, send: afar.SendShard | None) -> None:
        torch.set_num_threads(threads)
        self.worker, self.send = worker(*arguments), send

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        return {"count": [self.count(str(s), int(i)) for s, i in zip(batch["split"], batch["shard"])]}

    def count(self, split: str, index: int) -> int:
        """Write one shard; what the worker counts of it."""
        count: int = self.worker(split, index)
        if self.send is not None:
            self.send(self.worker.out, split, index)
        return count
