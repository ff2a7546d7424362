"""What runs in Ray's other processes, short work in the driver: training workers, tasks, what fills columns."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch

from raypref.cluster.faults import FAULT, SHARE, WATCHED, notice_file, read_fault
from raypref.cluster.stream import stream
from raypref.cluster.work import Work
from raypref.data.columns import shard_path
from raypref.errors import UserError
from raypref.stages.heartbeat import Heartbeat
from raypref.stages.stage import Chain, Shards, Stage, WorkerContext
from raypref.stages.worker import run_stages
from raypref.storage import sharing
from raypref.storage.store import Store, write_json
from raypref.training.allocator import forget_peak_memory, give_back_freed_memory


def work_alone(work: Work, report: Callable[[dict[str, Any]], None]) -> None:
    """Run stages as their only worker, in a process that may have run others and may run more."""
    _run(work, WorkerContext(Store(work.root), report=report, leaving=Notice()))


def work_in_group(work: Work) -> None:
    """Run stages as a worker of a Ray Train group; reports at each validation."""
    context, store = ray.train.get_context(), Store(work.root)
    scratch = store.scratch(work.stages[0].address)
    if fault := read_fault(store, scratch):
        raise fault  # Ray tries again whatever the error; this one is not mended by that
    ctx = WorkerContext(
        store=store,
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        report=lambda metrics: ray.train.report(printed(metrics)),
        leaving=leaving,
    )
    try:
        _run(work, ctx)
    except UserError as error:  # Ray passes exceptions on as text; this one must reach the user as it is
        with contextlib.suppress(OSError, UserError):  # the fault may be that nothing can be written
            write_json(scratch / FAULT, [error.what, error.where, error.hint])
            store.send(scratch / FAULT)
        raise


def _run(work: Work, ctx: WorkerContext) -> None:
    torch.set_num_threads(work.threads)
    forget_peak_memory()  # and what else a trial before this one left in this process
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    ctx.stream = stream if work.streamed else None
    ctx.watch = watcher(work.board if ctx.rank == 0 else None)
    ctx.beat = Heartbeat(work.run.config.resources.hang_timeout)
    try:
        run_stages(work.run, list(work.stages), ctx)
    finally:
        ctx.beat.stop()  # what comes after has no clock


def tidy() -> None:
    """Let go of a training's memory: this process may go on to another."""
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Notice:
    """Says, once, that this process's machine is about to be taken away (see commands/spot.py)."""

    def __init__(self) -> None:
        self.file: Path | None = notice_file(ray.get_runtime_context().get_node_id())

    def __call__(self) -> bool:
        if self.file is None or not self.file.exists():
            return False
        self.file = None
        print("this machine is about to go: checkpoint", flush=True)
        return True


def leaving() -> bool:
    """Whether Ray says, for the first time, that a node of this group is about to be taken away."""
    if os.environ.get(WATCHED) != "1" or _told or ray.train.get_preemption_info() is None:
        return False
    _told.append(True)
    print("a node of this group is about to go: checkpoint", flush=True)
    return True


_told: list[bool] = []


def watcher(board: str | None) -> Callable[[dict[str, Any]], None]:
    """Passes numbers on to a trial's board, without waiting for it."""
    if board is None:
        return lambda values: None
    show: Any = ray.get_actor(board).show
    return lambda values: show.remote(values)


def printed(metrics: dict[str, Any]) -> dict[str, Any]:
    """A validation for Tune, printed to the worker's log; the last one has no share: that trial is as good as done."""
    print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
    return {name: value for name, value in metrics.items() if name != SHARE or value < 1}


def run_stage(run: Chain, stage: Stage, root: str, threads: int | None = None) -> None:
    """One stage of a run, as a task."""
    if threads is not None:
        torch.set_num_threads(threads)
    run_stages(run, [stage], WorkerContext(Store(root)))


def first(
    body: Shards, run: Chain, inputs: dict[str, Path], folder: Path, threads: int, root: str, part: str | None
) -> dict[str, Any]:
    """What a stage's shards all need; its facts. `part`: where other machines find it, in an object store."""
    assert body.first is not None
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)  # of this machine, which may not be the driver's
    facts = body.first(run, inputs, folder)
    sharing.share(Store(root), folder, part)
    return facts


class ShardActor:
    """Holds a stage's shard worker (see `stage.Shards`) for one shard after another."""

    def __init__(
        self, worker: Callable[..., Any], arguments: tuple[Any, ...], threads: int, send: sharing.SendShard | None
    ) -> None:
        torch.set_num_threads(threads)
        self.worker, self.send = worker(*arguments), send

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        return {"count": [self.count(str(s), int(i)) for s, i in zip(batch["split"], batch["shard"])]}

    def count(self, split: str, index: int) -> int:
        """Write one shard; what the worker counts of it."""
        count: int = self.worker(split, index)
        if self.send is not None:
            self.send(self.worker.out, shard_path(self.worker.out, split, index))
        return count
