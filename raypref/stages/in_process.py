"""The same stages in this one process, without Ray: for tests, and for a GPU machine that has no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raypref.data.columns import ExampleTable, splits_in
from raypref.stages.stage import Chain, Shards, Stage, WorkerContext
from raypref.stages.worker import run_stages
from raypref.storage.headway import counted, telling
from raypref.storage.lease import leased
from raypref.storage.store import Store


class InProcess:
    """Runs stages of a chain here and now."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, run: Chain, stage: Stage) -> bool:
        """Run one stage unless its output is there, or another process makes it; whether it was run."""
        if self.store.done(stage.address):
            return False
        with leased(self.store, stage.address):
            if missing := not self.store.done(stage.address):
                self._make(run, stage)
        return missing

    def _make(self, run: Chain, stage: Stage) -> None:
        run, body = run.ready(self.store), stage.of.body
        if not isinstance(body, Shards):
            run_stages(run, [stage], WorkerContext(self.store))
            return
        inputs = stage.input_paths(self.store)
        with (
            telling(self.store, stage.address),
            self.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, facts),
        ):
            if body.first is not None:
                facts |= body.first(run, inputs, folder)
            worker = body.worker(stage)(run.config, inputs, folder, folder)
            prepared = inputs["prepare"]
            shards = [
                (split, shard)
                for split in splits_in(prepared, body.splits(stage))
                for shard in range(ExampleTable([prepared], split).shards)
            ]
            facts[body.counted] = sum(worker(*shard) for shard in counted(shards, len(shards), "shard"))

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        """Run stages of which none needs another, here one by one; each is given back when it is done."""
        for run, stage in pairs:
            self(run, stage)
            yield stage
