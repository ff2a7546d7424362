"""The same stages in this one process, without Ray: for tests, and for a GPU machine that has no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raypref.data.columns import ExampleTable, splits_in
from raypref.stages import bodies
from raypref.stages.chain import Chain, Stage, data_config
from raypref.stages.worker import Surroundings, run_stages
from raypref.store import Store


class InProcess:
    """Runs stages of a chain here and now."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, run: Chain, stage: Stage) -> None:
        """Run one stage unless its output is there."""
        if self.store.done(stage.address):
            return
        if stage.kind in ("sft", "align", "features", "try", "tune", "fit", "evaluate"):
            run_stages(run, [stage], Surroundings(self.store))
            return
        paths = stage.input_paths(self.store)
        addresses = {name: str(parent.address) for name, parent in stage.inputs.items()}
        with self.store.writing(stage.address, stage.config, addresses) as (folder, facts):
            if stage.kind == "prepare":
                facts |= bodies.prepare(data_config(run.config, stage.address != run.prepare.address), folder)
                return
            worker: Any
            if stage.kind == "tokenize":
                facts |= bodies.write_tokenizer(run.config, paths, folder / "tokenizer")
                kind, splits = bodies.token_writer(stage.config)
                worker = kind(run.config, paths["prepare"], folder / "tokenizer", folder)
            elif stage.kind == "expert":
                facts |= bodies.fit_expert(run.config, folder)
                worker, splits = bodies.ShardExpert(paths["prepare"], folder, folder), stage.config["splits"]
            else:
                worker, splits = bodies.ShardScorer(run.config, paths, folder), stage.config["splits"]
            for split in splits_in(paths["prepare"], splits):
                for shard in range(ExampleTable([paths["prepare"]], split).shards):
                    worker(split, shard)

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        """Run stages of which none needs another, here one by one; each is given back when it is done."""
        for run, stage in pairs:
            self(run, stage)
            yield stage
