"""prepare: the source is read, examples are cut, and the interactions are kept that training may see.

Also what reads its output.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config import RunConfig
from raypref.config.data import CutConfig, DataConfig
from raypref.config.loading import dump
from raypref.data.columns import ExampleTable, splits_in, write_shard
from raypref.data.examples import asks_for_liked, examples_of
from raypref.data.prompts import PromptRenderer
from raypref.data.reading import read_log
from raypref.data.schema import Log
from raypref.data.splitting import PROBES, SPLITS
from raypref.stages.identity import source_identity
from raypref.stages.stage import Chain, Kind, Stage, WorkerContext

if TYPE_CHECKING:
    from raypref.evaluation.catalog import Catalog
    from raypref.recommenders import Questions, TrainingLog


def prepare_stage(config: RunConfig) -> Stage:
    """The stage that reads the source and cuts the examples."""
    content = {**dump(config)["data"], "source": source_identity(config)}
    for later in ("max_users", "long_titles"):  # keys that came later and change nothing by default
        if content[later] == DataConfig.model_fields[later].default:
            del content[later]
    if config.data.target == "next":
        content["adherence"] = "liked"  # once it took disliked targets too; with `recpo` targets there are none
    return Stage(PREPARE, config.name, content)


def data_config(config: RunConfig, transfer: bool) -> RunConfig:
    """`config` with the data set that is evaluated in place of the one that is trained on, if there is one."""
    if not transfer or config.transfer is None:
        return config
    return config.model_copy(update={"data": config.transfer, "transfer": None})


def run(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """Read the source, cut examples, write them shard by shard with the catalog and the refused lines."""
    config = data_config(chain.config, stage.address != chain.prepare.address)
    with ctx.store.writing(stage.address, stage.config, {}) as (folder, facts):
        facts |= write_examples(read_log(config.data), config.data, folder)


PREPARE = Kind("prepare", 4, "task", run)


SETS = (*SPLITS, *PROBES)


def write_examples(log: Log, config: CutConfig, folder: Path) -> dict[str, Any]:
    """A log's examples and catalog, as the prepare stage leaves them; its facts."""
    examples = examples_of(log, config)
    for name in ("items", "users", "rejected"):
        pq.write_table(getattr(log, name), folder / f"{name}.parquet")
    user, item = examples.training_interactions()
    pq.write_table(pa.table({"user": user, "item": item}), folder / "interactions.parquet", compression="zstd")
    facts: dict[str, Any] = {
        "source": log.name,
        "domain": log.domain,
        "liked_targets": asks_for_liked(log, config),
        "users": len(np.unique(examples.user)),
        "items": len(examples.unseen.items),
        "interactions": len(examples.user),
        "rejected_lines": log.rejected.num_rows,
        "longest_title": max(map(len, log.items["title"].to_pylist())),
    }
    counts = {"item": np.arange(log.items.num_rows, dtype=np.int32), "count": examples.train_counts.astype(np.int64)}
    pq.write_table(pa.table(counts), folder / "train_counts.parquet")
    for split in SETS:
        facts[f"{split}_examples"] = examples.rows(split)
        for i, shard in enumerate(examples.shards(split)):
            write_shard(shard, folder, split, i)
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


def titles_of(prepared: Path) -> list[str]:
    """Title of item 0, 1, ..."""
    titles: list[str] = pq.read_table(prepared / "items.parquet", columns=["title"])["title"].to_pylist()
    return titles


def train_counts(prepared: Path) -> np.ndarray:
    """(items,) training interactions of item 0, 1, ..."""
    counts: np.ndarray = pq.read_table(prepared / "train_counts.parquet")["count"].to_numpy()
    return counts


def catalog_of(prepared: Path, unseen: bool) -> Catalog:
    """Every item that training or a held-out example shows (as all do that k-core keeps, but for some that only lie
    beyond a split's horizon), and what training data say of them.

    Args:
        unseen: leave out what a user met in training.
    """
    from raypref.evaluation.catalog import Catalog

    counts, log = train_counts(prepared), pq.read_table(prepared / "interactions.parquet")
    there = counts > 0
    for split in splits_in(prepared, SETS[1:]):
        for table in ExampleTable([prepared], split, ("history", "candidates")):
            for name in ("history", "candidates"):
                there[table[name].combine_chunks().flatten().to_numpy()] = True
    user, item = log["user"].to_numpy(), log["item"].to_numpy()
    order = np.argsort(user, kind="stable")
    bounds = np.searchsorted(user[order], np.arange(int(user.max(initial=-1)) + 2))
    seen = np.split(item[order], bounds[1:-1]) if unseen and len(user) else None
    return Catalog(np.flatnonzero(there), counts, len(np.unique(user)), seen, genres_of(prepared))


def genres_of(prepared: Path) -> list[list[int]] | None:
    """Of item 0, 1, ... the numbers of its genres, by the metadata's `genres` or `genre`; None where none has any."""
    metadata = pq.read_table(prepared / "items.parquet", columns=["metadata"])["metadata"].to_pylist()
    found: list[list[str]] = []
    for text in metadata:
        content = json.loads(text) if text else {}
        listed = content.get("genres", content.get("genre")) or []
        listed = [listed] if isinstance(listed, str) else listed
        found.append([str(name) for name in listed if name and name != "(no genres listed)"])  # so MovieLens has none
    names = sorted({name for own in found for name in own})
    numbers = {name: number for number, name in enumerate(names)}
    return [[numbers[name] for name in own] for own in found] if names else None


def training_log_of(prepared: Path) -> TrainingLog:
    """The interactions from which training examples are cut."""
    from raypref.recommenders import TrainingLog

    log = pq.read_table(prepared / "interactions.parquet")
    items = pq.read_metadata(prepared / "items.parquet").num_rows
    return TrainingLog(log["user"].to_numpy(), log["item"].to_numpy(), items)


def validation_questions_of(prepared: Path) -> Questions | None:
    """The validation split, lists and all; None where a published data set has none."""
    from raypref.recommenders import validation_questions

    if not splits_in(prepared, ("validation",)):
        return None
    return validation_questions(list(ExampleTable([prepared], "validation", ("history", "candidates", "target"))))


def renderer_of(config: RunConfig, prepared: Path) -> PromptRenderer:
    facts = json.loads((prepared / "facts.json").read_text())
    return PromptRenderer(config.prompt, facts["domain"], facts["liked_targets"])
