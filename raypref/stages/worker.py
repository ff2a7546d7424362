"""What a training worker does: the stages it is given, one after the other, in a group of one or more.

The same code runs under Ray Train and alone; `Surroundings` is all that differs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch.distributed as dist
from pydantic import TypeAdapter

from raypref.config.recommender import BaselineConfig
from raypref.config.training import AlignConfig
from raypref.data.columns import ExampleTable, splits_in
from raypref.evaluation.chat import ChatClient, chatted
from raypref.evaluation.metrics import means
from raypref.evaluation.rows import evaluated, judged
from raypref.evaluation.yes_no import asked
from raypref.models import backbone
from raypref.recommenders import Group, load_recommender
from raypref.stages import bodies
from raypref.stages.afar import receive_checkpoint, send_checkpoint
from raypref.stages.chain import Chain, Stage
from raypref.stages.heartbeat import Heartbeat
from raypref.stages.out_of_memory import memory_faults
from raypref.stages.training_inputs import training_config, training_folders
from raypref.store import MANIFEST, Store
from raypref.training.allocator import peak_memory_gb
from raypref.training.batches import Collator, ReadTables
from raypref.training.curriculum import CurriculumCollator
from raypref.training.engine import make_engine
from raypref.training.loop import train
from raypref.training.micro import MicroBatches
from raypref.training.progress import kept_folder
from raypref.training.tasks import table_columns, task_of
from raypref.training.validation import Validator


@dataclass
class Surroundings:
    """Where a worker stands: its group, its data, whom it reports to."""

    store: Store
    rank: int = 0
    world: int = 1
    stream: Callable[[], ReadTables] | None = None
    """Gives the training table's reader; None reads the shards from the store."""
    report: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Called on every worker alike, at each validation."""
    watch: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Called on every worker after each step."""
    beat: Heartbeat = field(default_factory=Heartbeat)
    """Told of each step and batch."""
    leaving: Callable[[], bool] = lambda: False
    """Asked on every worker alike after each step: is a machine of the group about to go?"""


def run_stages(chain: Chain, stages: list[Stage], around: Surroundings) -> dict[str, Any]:
    """Run those of `stages` (sft, align, evaluate) that are not done; their metrics by stage kind."""
    results: dict[str, Any] = {}
    for stage in stages:
        if not around.store.done(stage.address):
            with memory_faults(str(stage.address)):
                _BODIES[stage.kind](chain, stage, around)
            around.beat.stop()
            _barrier(around)
        results[stage.kind] = around.store.manifest(stage.address)["facts"]
    return results


def train_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """SFT or alignment: train from the inputs' model, publish the kept weights and the logs."""
    store, config, resources = around.store, training_config(chain, stage), chain.config.resources
    paths = stage.input_paths(store)
    if isinstance(config, AlignConfig):
        model, tokenizer = bodies.load_policy(chain.config, paths["tokenize"], paths["sft"])
    else:
        tokenizer = backbone.load_tokenizer(paths["tokenize"] / "tokenizer")
        model = backbone.build(chain.config.model, tokenizer)
        if chain.config.system == "llara":
            bodies.attach_behaviour(chain.config, model, tokenizer, paths["expert"])
    folders, columns = training_folders(stage, store), table_columns(config)
    table = ExampleTable(folders, "train", columns)
    task = task_of(config)
    engine = make_engine(model, config, resources)
    rows = engine.scorer.rows(resources.packing)
    collator = Collator(task.negatives, config.seed, tokenizer.pad_token_id, rows)
    if chain.config.system == "llara" and chain.config.llara.curriculum:
        collator = CurriculumCollator(task.negatives, config.seed, tokenizer.pad_token_id, rows, len(tokenizer))
    validation = list(bodies.head(ExampleTable(folders, "validation", columns), config.validation_examples))
    micro = min(resources.micro_batch, config.global_batch // around.world)
    scratch = store.scratch(stage.address)
    if around.rank == 0:
        receive_checkpoint(store, scratch)
    _barrier(around)

    def watch(values: dict[str, Any]) -> None:
        around.beat()
        around.watch(values)

    around.beat()
    try:
        facts = train(
            engine=engine,
            task=task,
            config=config,
            read=around.stream() if around.stream else lambda: iter(table),
            examples=table.rows,
            collator=collator,
            validator=Validator(validation, collator, micro),
            micro_batches=MicroBatches(micro, resources.micro_tokens),
            scratch=scratch,
            checkpoint_every=resources.checkpoint_every,
            report=around.report,
            watch=watch,
            leaving=around.leaving,
            saved=lambda: send_checkpoint(store, scratch),
        )
    finally:
        engine.close()
    around.beat.stop()
    if around.rank == 0:
        with store.writing(stage.address, stage.config, _addresses(stage)) as (folder, manifest_facts):
            shutil.copytree(kept_folder(scratch, facts["kept_step"]), folder / "model")
            for name in ("metrics", "validation"):
                if (scratch / f"{name}.jsonl").is_file():
                    shutil.copy(scratch / f"{name}.jsonl", folder)
            manifest_facts |= facts | {"peak_memory_gb": peak_memory_gb(), "workers": around.world}


def evaluate_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """Rows of every evaluated example; each worker does its share of the batches."""
    store, config = around.store, chain.config.evaluation
    paths = stage.input_paths(store)
    started = time.perf_counter()
    judge = _judge(chain, paths, store)
    folders = [paths[name] for name in ("prepare", "tokenize") if name in paths]
    scratch = store.scratch(stage.address)
    scratch.mkdir(parents=True, exist_ok=True)
    parts: list[pa.Table] = []
    splits = splits_in(paths["prepare"], config.splits)
    for split in splits:
        tables = bodies.head(ExampleTable(folders, split), config.max_examples)
        own = (t.slice(i, config.batch) for t in tables for i in range(0, t.num_rows, config.batch))
        own = (t for n, t in enumerate(own) if n % around.world == around.rank)
        parts += judge(own if chain.config.system == "chatrec" else _beating(own, around), split)
    around.beat.stop()
    if parts:
        pq.write_table(pa.concat_tables(parts), scratch / f"rows-{around.rank}-of-{around.world}.parquet")
    _barrier(around)
    if around.rank == 0:
        found = [pq.read_table(p) for p in sorted(scratch.glob(f"rows-*-of-{around.world}.parquet"))]
        rows = pa.concat_tables(found).sort_by([("split", "ascending"), ("example", "ascending")])
        with store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            pq.write_table(rows, folder / "rows.parquet", compression="zstd", write_page_checksum=True)
            for split in splits:
                of_split = rows.filter(pa.compute.equal(rows["split"], split))
                facts[split] = means(of_split) | {"examples": of_split.num_rows}
            facts["evaluate_seconds"] = round(time.perf_counter() - started, 2)
            facts["finished"] = time.time()


def _beating(tables: Iterable[pa.Table], around: Surroundings) -> Iterator[pa.Table]:
    for table in tables:
        around.beat()
        yield table


def _judge(
    chain: Chain, paths: dict[str, Path], store: Store
) -> Callable[[Iterable[pa.Table], str], Iterator[pa.Table]]:
    """What makes rows of a split's tables: a language model that writes and scores titles, a recommender, or a chat."""
    config, counts = chain.config.evaluation, bodies.train_counts(paths["prepare"])
    if "fit" in paths:
        recommender = load_recommender(paths["fit"] / "model")
        return lambda tables, split: judged(recommender, tables, split, config.batch, counts)
    if "questions" in paths:
        model, tokenizer = bodies.load_policy(chain.config, paths["questions"], paths["model"])
        asker = bodies.asker_of(chain.config, paths["prepare"], tokenizer)
        return lambda tables, split: asked(model, asker, tables, split, config.batch, counts)
    titles = bodies.titles_of(paths["prepare"])
    if chain.config.system == "chatrec":
        chat, workers = chain.config.chat, chain.config.resources.workers
        own = chat.model_copy(update={"spend_cap": chat.spend_cap / workers})  # each spends its share at most
        client = ChatClient(own, store.root / "chat-cache")
        render = bodies.renderer_of(chain.config, paths["prepare"])
        return lambda tables, split: chatted(client, render, titles, tables, split, counts)
    model, tokenizer = bodies.load_policy(chain.config, paths["tokenize"], paths.get("model"))
    return lambda tables, split: evaluated(
        model, tokenizer, titles, tables, split, config.batch, config.generate, counts, config.beams
    )


def features_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """Features of all titles, for a recommender that reads them."""
    if around.rank == 0:
        prepared = stage.input_paths(around.store)["prepare"]
        with around.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, facts):
            facts |= bodies.encode_titles(chain.config, prepared, folder)


def try_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """A baseline fitted with seed 0 and one of its L2 penalties."""
    config: BaselineConfig = TypeAdapter(BaselineConfig).validate_python(stage.config["recommender"])
    _fit(config, chain, stage, around)


def tune_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """Of a baseline's tries the one that ranks the validation split best, of equals the first penalty's."""
    facts = {name: around.store.manifest(tried.address)["facts"] for name, tried in stage.inputs.items()}
    values = {name: facts[name]["tried"][name] for name in (f"{l2:g}" for l2 in stage.config["l2"])}
    best = max(values, key=lambda name: values[name])  # the first of the greatest
    if around.rank == 0:
        _copy(stage.inputs[best], stage, around, facts[best] | {"tried": values})


def fit_stage(chain: Chain, stage: Stage, around: Surroundings) -> None:
    """A baseline, fitted on the training interactions and stopped by the validation split."""
    config: Any = chain.config.baseline
    tuned = stage.inputs.get("tune")
    if tuned is None:
        _fit(config, chain, stage, around)
        return
    facts = around.store.manifest(tuned.address)["facts"]
    if config.seed != 0:
        _fit(config.model_copy(update={"l2": (facts["l2"],)}), chain, stage, around)
    elif around.rank == 0:  # that fit has been made
        _copy(tuned, stage, around, facts)


def _copy(made: Stage, stage: Stage, around: Surroundings, facts: dict[str, Any]) -> None:
    """Publish what another stage left as this one's."""
    with around.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, manifest_facts):
        shutil.copytree(around.store.path(made.address), folder, dirs_exist_ok=True, ignore=_MANIFEST)
        manifest_facts |= facts


def _fit(config: BaselineConfig, chain: Chain, stage: Stage, around: Surroundings) -> None:
    started = time.perf_counter()
    encoded = stage.inputs.get("features")
    features = None if encoded is None else np.load(around.store.path(encoded.address) / "features.npy")
    recommender, facts = bodies.fit_baseline(chain.config, config, Group(around.rank, around.world), features)
    if around.rank == 0:
        with around.store.writing(stage.address, stage.config, _addresses(stage)) as (folder, manifest_facts):
            recommender.save(folder / "model")
            lines = [json.dumps(point) for point in facts.pop("curve", [])]
            (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
            seconds = round(time.perf_counter() - started, 2)
            manifest_facts |= {**facts, "train_seconds": seconds, "peak_memory_gb": peak_memory_gb()}


_MANIFEST = shutil.ignore_patterns(MANIFEST)
_BODIES = {
    "features": features_stage,
    "try": try_stage,
    "tune": tune_stage,
    "fit": fit_stage,
    "sft": train_stage,
    "align": train_stage,
    "evaluate": evaluate_stage,
}


def _addresses(stage: Stage) -> dict[str, str]:
    return {name: str(parent.address) for name, parent in stage.inputs.items()}


def _barrier(around: Surroundings) -> None:
    if around.world > 1:
        dist.barrier()
