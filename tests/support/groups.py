"""Groups of processes that tests start: forked from one that has imported, once, what training needs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch.multiprocessing as mp

PRELOADED = ["tests.support.training_runs", "raypref.stages.policy", "deepspeed"]  # eight CPU seconds in each process


def start_group(work: Callable[..., None], arguments: tuple[Any, ...], world: int) -> Sequence[Any]:
    """Start `world` processes that call `work(rank, *arguments)`; they are not waited for."""
    return _start(work, arguments, world).processes


def run_group(work: Callable[..., None], arguments: tuple[Any, ...], world: int) -> None:
    """Run `work(rank, *arguments)` in `world` processes to their end.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them failed; the others are ended.
    """
    group = _start(work, arguments, world)
    while not group.join():
        pass


def _start(work: Callable[..., None], arguments: tuple[Any, ...], world: int) -> Any:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is first imported
    multiprocessing.set_forkserver_preload(PRELOADED)
    return mp.start_processes(work, arguments, nprocs=world, join=False, start_method="forkserver")  # type: ignore[no-untyped-call]
