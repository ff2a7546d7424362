"""reference: log-probs of candidates under the frozen SFT model, so that training holds one model.

Where alignment ends before it has seen all examples, those alone are scored that its steps draw and its validation
reads. A run that draws others has a stage of its own, which takes over what earlier ones have scored.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config import RunConfig
from raypref.data.columns import ExampleTable, head, shard_path, splits_in, write_shard
from raypref.stages.stage import AlignedChain, Chain, Kind, Shards, Stage, splits_of
from raypref.storage.headway import tell
from raypref.storage.store import Store

SCORING_BATCH = 32
DRAWN = "drawn"
"""Of the stage's config: what says which examples are scored."""
SEEDS = 3  # of alignment that one reference serves: 0 to 2, or 3 to 5 ...; a sweep's repetitions share it
EARLIER = "earlier.json"
SCORES = pa.list_(pa.float32())


def reference_stage(config: RunConfig, inputs: Mapping[str, Stage]) -> Stage:
    """The stage that scores with the model of `inputs`, or with its base."""
    content: dict[str, Any] = {"splits": ["train", "validation"], "model": config.align.reference}
    align = config.align
    if align.max_steps is not None:
        content[DRAWN] = {
            "first_seed": align.seed // SEEDS * SEEDS,
            "batch": align.global_batch,
            "steps": align.max_steps,
            "validation": align.validation_examples if align.validations else 0,
        }
    if config.resources.precision != "auto":  # log-probs of one precision are no reference in another
        content["precision"] = config.resources.precision
    if config.resources.precision == "bfloat16":
        content["attention"] = "each title alone"  # since it is so: see `models.attention`
    return Stage(REFERENCE, config.name, content, inputs)


class ShardScorer:
    """Writes the reference's log-probs of all candidates of one shard after another; holds the SFT model.

    With `align.reference: base` the SFT model's adapter is off, which leaves the base model. A row that nobody will
    read has null.
    """

    def __init__(self, config: RunConfig, inputs: dict[str, Path], made: Path, out: Path) -> None:
        self.config, self.inputs, self.out = config, inputs, out
        said = json.loads((made / EARLIER).read_text())
        store = Store(said["root"])
        self.earlier = [store.root / name if store.bucket is None else store.fetched(name) for name in said["earlier"]]
        self.wanted = wanted(inputs["tokenize"], said[DRAWN])
        self.loaded = False

    def _load(self) -> None:
        """The model, once there is something to score."""
        from raypref.models.precision import autocast
        from raypref.models.scoring import TitleScorer
        from raypref.stages.policy import load_policy
        from raypref.training.allocator import keep_freed_memory

        config, inputs = self.config, self.inputs
        self.model, self.tokenizer = load_policy(config, inputs["tokenize"], inputs["sft"])
        self.scorer = TitleScorer(self.model.eval(), config.resources.attention)
        if self.model.device.type == "cpu":
            keep_freed_memory()
        self.base = config.align.reference == "base"
        self.autocast = autocast(config.resources, self.model.device)
        self.loaded = True

    def __call__(self, split: str, shard: int) -> int:
        """Titles scored now, without those that an earlier stage has scored."""
        table = ExampleTable([self.inputs["tokenize"]], split).read(shard)
        examples, wanted = table["example"].to_numpy(), self.wanted[split]
        logps = self._known(split, shard, len(examples))
        missing = [i for i, known in enumerate(logps) if known is None and (wanted is None or examples[i] in wanted)]
        for i, scores in zip(missing, self._scored(table.take(missing)) if missing else ()):
            logps[i] = scores
        columns = {"example": table["example"], "ref_logps": pa.array(logps, SCORES)}
        write_shard(pa.table(columns), self.out, split, shard)
        return sum(len(logps[i]) for i in missing)

    def _known(self, split: str, shard: int, rows: int) -> list[Any]:
        """Of each row what an earlier stage made of it, None of the others."""
        found: list[Any] = [None] * rows
        for folder in self.earlier:
            column = pq.read_table(shard_path(folder, split, shard), columns=["ref_logps"])["ref_logps"]
            found = [own if own is not None else theirs for own, theirs in zip(found, column.to_pylist())]
        return found

    def _scored(self, table: pa.Table) -> list[np.ndarray]:
        """(C,) log-probs of each row's candidates."""
        import torch

        from raypref.models.layout import all_candidates

        if not self.loaded:
            self._load()
        logps: list[np.ndarray] = []
        with torch.no_grad(), self.model.disable_adapter() if self.base else contextlib.nullcontext(), self.autocast:
            for first in range(0, table.num_rows, SCORING_BATCH):
                tell(first, table.num_rows, "example")
                part = table.slice(first, SCORING_BATCH)
                batch = all_candidates(part, self.tokenizer.pad_token_id, self.scorer.rows())
                logps += list(self.scorer(batch.to(self.model.device)).float().cpu().numpy())
        return logps


def wanted(examples: Path, drawn: dict[str, int] | None) -> dict[str, set[int] | None]:
    """The examples of each split that alignment draws with any of its seeds, or validates with; None: all of them."""
    if drawn is None:
        return {"train": None, "validation": None}
    from raypref.training.batches import global_batches

    tables = {split: ExampleTable([examples], split, ()) for split in splits_in(examples, ("train", "validation"))}
    train, size, first = list(tables["train"]), drawn["batch"], drawn["first_seed"]
    per_epoch = sum(table.num_rows for table in train) // size
    found: set[int] = set()
    for seed in range(first, first + SEEDS) if per_epoch else ():  # a batch greater than the data training refuses
        batches = global_batches(lambda: iter(train), size, seed, 0, per_epoch)
        for _, (_, batch) in zip(range(drawn["steps"]), batches):
            found.update(batch["example"].to_pylist())
    validated = head(tables.get("validation", ()), drawn["validation"])
    return {"train": found, "validation": {number for table in validated for number in table["example"].to_pylist()}}


def _first(chain: Chain, inputs: dict[str, Path], folder: Path) -> dict[str, Any]:
    """What this stage scores, and which others have scored a part of it."""
    assert isinstance(chain, AlignedChain)
    assert chain.reference is not None
    source = getattr(inputs["sft"], "source", None)
    store = Store(source[0] if source else inputs["sft"].parent.parent)
    said = {"root": store.location, "earlier": _siblings(chain.reference, store)}
    (folder / EARLIER).write_text(json.dumps(said | {DRAWN: chain.reference.config.get(DRAWN)}))
    return {}


def _siblings(stage: Stage, store: Store) -> list[str]:
    """Finished stages that differ in nothing but how much they score."""

    def without(config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in config.items() if name != DRAWN}

    found = []
    for address in store.finished(stage.kind):
        manifest = store.manifest(address)
        if manifest["inputs"] == stage.input_addresses() and without(manifest["config"]) == without(stage.config):
            found.append(str(address))
    return found


def _worker(stage: Stage) -> type[ShardScorer]:
    return ShardScorer


REFERENCE = Kind("reference", 1, "shards", Shards(_worker, splits_of, "titles_scored", first=_first, trained=True))
