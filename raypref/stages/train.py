"""sft and align: the language model is trained, on titles or by an objective, and its kept weights are published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from raypref.config.systems import SYSTEMS
from raypref.config.training import AlignConfig, TrainingConfig
from raypref.data.columns import ExampleTable, head
from raypref.stages.stage import Chain, Kind, Stage, WorkerContext
from raypref.storage.headway import tell
from raypref.storage.store import Store
from raypref.uncollected import uncollected


def training_config(chain: Chain, stage: Stage) -> TrainingConfig:
    return chain.config.align if stage.kind == "align" else chain.config.sft


def training_folders(stage: Stage, store: Store) -> list[Path]:
    """Folders whose columns make this stage's training table."""
    paths = stage.input_paths(store)
    return [paths[name] for name in ("tokenize", "prepare", "reference", "expert") if name in paths]


def run(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """SFT or alignment: train from the inputs' model, publish the kept weights and the logs."""
    with uncollected():
        from raypref.models import backbone
        from raypref.stages.policy import attach_behaviour, load_policy
        from raypref.storage.sharing import receive_checkpoint, send_checkpoint
        from raypref.training.allocator import peak_memory_gb
        from raypref.training.batches import Collator
        from raypref.training.curriculum import CurriculumCollator
        from raypref.training.engine import make_engine
        from raypref.training.loop import planned_steps, train
        from raypref.training.micro import MicroBatches
        from raypref.training.progress import kept_folder
        from raypref.training.tasks import table_columns, task_of
        from raypref.training.validation import Validator

    store, config, resources = ctx.store, training_config(chain, stage), chain.config.resources
    paths = stage.input_paths(store)
    if isinstance(config, AlignConfig):
        model, tokenizer = load_policy(chain.config, paths["tokenize"], paths["sft"])
    else:
        tokenizer = backbone.load_tokenizer(paths["tokenize"] / "tokenizer")
        model = backbone.build(chain.config.backbone, tokenizer)
        if SYSTEMS[chain.config.system].behaviour:
            attach_behaviour(chain.config, model, tokenizer, paths["expert"])
    folders, columns = training_folders(stage, store), table_columns(config)
    table = ExampleTable(folders, "train", columns)
    task = task_of(config)
    engine = make_engine(model, config, resources)
    rows = engine.scorer.rows(resources.packing)
    collator = Collator(task.negatives, config.seed, tokenizer.pad_token_id, rows, task.choice)
    if SYSTEMS[chain.config.system].behaviour and chain.config.llara.curriculum:
        collator = CurriculumCollator(task.negatives, config.seed, tokenizer.pad_token_id, rows, len(tokenizer))
    validation = list(head(ExampleTable(folders, "validation", columns), config.validation_examples))
    micro = min(resources.micro_batch, config.global_batch // ctx.world)
    scratch = store.scratch(stage.address)
    if ctx.rank == 0:
        receive_checkpoint(store, scratch)
    ctx.barrier()

    steps = planned_steps(config, table.rows)

    def watch(values: dict[str, Any]) -> None:
        ctx.beat()
        ctx.watch(values)
        if "loss" in values:
            tell(values["step"], steps, "step", **{name: values[name] for name in ("loss", "tokens_per_second")})

    ctx.beat()
    try:
        facts = train(
            engine=engine,
            task=task,
            config=config,
            read=ctx.stream or (lambda: iter(table)),
            examples=table.rows,
            collator=collator,
            validator=Validator(validation, collator, micro),
            micro_batches=MicroBatches(micro, resources.micro_tokens),
            scratch=scratch,
            checkpoint_every=resources.checkpoint_every,
            report=ctx.report,
            watch=watch,
            leaving=ctx.leaving,
            saved=lambda: send_checkpoint(store, scratch),
        )
    finally:
        engine.close()
    ctx.beat.stop()
    if ctx.rank == 0:
        with store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, manifest_facts):
            shutil.copytree(kept_folder(scratch, facts["kept_step"]), folder / "model")
            for name in ("metrics", "validation"):
                if (scratch / f"{name}.jsonl").is_file():
                    shutil.copy(scratch / f"{name}.jsonl", folder)
            manifest_facts |= facts | {"peak_memory_gb": peak_memory_gb(), "workers": ctx.world}


SFT = Kind("sft", 1, "group", run)
ALIGN = Kind("align", 1, "group", run)
