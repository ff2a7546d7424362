"""Two workers without Ray: the one place of the recorded runs that knows raypref's inside, so it moves with it.

`compare.py` runs each commit by its own copy of this file.
"""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from raypref.config.loading import load
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import WorkerContext
from raypref.stages.worker import run_stages
from raypref.storage.store import Store


def run(config: Path, root: Path, rank: int, workers: int) -> None:
    """Run the stages of a YAML file's run that aren't done; those that train or evaluate by all workers together.

    Called by every process of a group of `workers`, as number `rank`.
    """
    plan, store = chain(load("scratch", config)[0]), Store(root)
    for stage in plan:
        if stage.kind in ("sft", "align", "evaluate"):
            run_stages(plan, [stage], WorkerContext(store, rank, workers))
        elif rank == 0:
            InProcess(store)(plan, stage)
        dist.barrier()
