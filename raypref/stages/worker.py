"""What a worker does: the stages it is given, one after the other, in a group of one or more."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from raypref.stages.out_of_memory import memory_faults
from raypref.stages.stage import Chain, Shards, Stage, WorkerContext
from raypref.storage.headway import telling


def run_stages(chain: Chain, stages: Sequence[Stage], ctx: WorkerContext) -> dict[str, Any]:
    """Run those of `stages` that are not done; the facts they leave, by stage kind."""
    results: dict[str, Any] = {}
    chain = chain.ready(ctx.store)
    for stage in stages:
        if not ctx.store.done(stage.address):
            assert not isinstance(stage.of.body, Shards)
            told = telling(ctx.store, stage.address) if ctx.rank == 0 else contextlib.nullcontext()
            with memory_faults(str(stage.address)), told:
                stage.of.body(chain, stage, ctx)
            ctx.beat.stop()
            ctx.barrier()
        results[stage.kind] = ctx.store.manifest(stage.address)["facts"]
    return results
