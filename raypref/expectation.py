"""How long it will take, roughly, said before it begins: from the model's size and this machine's speed."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from raypref.config import RunConfig
from raypref.config.model import PretrainedModel, ScratchModel
from raypref.config.sources import FileSource, GeneratedSource
from raypref.config.systems import SYSTEMS
from raypref.cores import usable_cores
from raypref.data.sources.files import find
from raypref.models.folders import SHIPPED, local_folder
from raypref.models.shapes import SHAPES, parameters_of
from raypref.stages.stage import Chain, Stage
from raypref.storage.headway import duration
from raypref.storage.store import Store

USED = 0.35  # of a matrix product's speed, what small batches with their overheads reach: the default sweep, two cores
GPU_USED = 1.3e14
"""Operations a second that a step reaches on one H100, of those that it needs at least: 128 TFLOP/s measured at 1 B
with LoRA, 148 at 8 B with checkpointing (docs/performance.md); models that fill it less are slower."""
TOKENS = 6, 80, 9  # of a title, of a prompt's own words, of a history's line
SHORT_TOKENS = 2, 6, 4  # the same where `raypref-tiny` reads the data that it knows the words of
BYTES_PER_INTERACTION, INTERACTIONS_PER_USER = 30, 60
STAGE_S, TRIAL_S, RAY_S = 1.0, 2.0, 15.0
FACTOR = 2.0  # the truth lies within, mostly


def expected_line(pairs: Iterable[tuple[Chain, Stage]], store: Store, ray: bool = True) -> str:
    """What stages that are still to be made are expected to take together, on this machine; `ray`: it starts first."""
    missing = {str(stage.address): (run, stage) for run, stage in pairs if not store.done(stage.address)}
    if not missing:
        return "all is done before"
    seconds = sum(stage_seconds(run, stage, store) for run, stage in missing.values()) + RAY_S * ray
    low, high = duration(seconds / FACTOR), duration(seconds * FACTOR)
    return f"expected to take {low} to {high} (a guess, from the model's size and this machine's speed)"


def cost_line(run: Chain, store: Store) -> str:
    """What a run's language model takes, done or not: operations, days here and on one GPU; empty: there is none."""
    operations = sum(_operations(run, stage, store) for stage in run)
    if operations == 0:
        return ""
    here, there = (days(operations / rate) for rate in (speed() * USED, GPU_USED))
    return (
        f"the language model needs {operations:.2g} operations: {here} on this machine's cores ({speed() / 1e9:.0f} "
        f"GFLOP/s measured, {USED:.0%} of it used), {there} on one GPU as fast as an H100 was measured "
        f"({GPU_USED / 1e12:.0f} TFLOP/s)"
    )


def days(seconds: float) -> str:
    """As `duration`, with days: 38 s, 12 min, 3.5 h, 4.2 days."""
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86_400:.3g} days"


def stage_seconds(run: Chain, stage: Stage, store: Store) -> float:
    """A guess of one stage's seconds."""
    operations = _operations(run, stage, store)
    rate = GPU_USED if run.config.resources.gpus_per_worker > 0 else speed() * USED
    return STAGE_S if operations == 0 else TRIAL_S + operations / rate


def _operations(run: Chain, stage: Stage, store: Store) -> float:
    """Floating-point operations of a stage's language model, the least that it needs; 0: it has none."""
    passes = _token_passes(run, stage, store)
    return 2 * parameters(run.config) * passes if passes else 0.0


def _knows_the_words(config: RunConfig) -> bool:
    """Whether a word of the data is one token of the model."""
    shipped = isinstance(config.model, PretrainedModel) and config.model.path == SHIPPED
    return shipped and isinstance(config.data.source, GeneratedSource)


def _token_passes(run: Chain, stage: Stage, store: Store) -> float:
    """Tokens that go through the model forward, a backward pass counted as two of them, under an adapter as one."""
    config, examples = run.config, _examples(run, store)
    listed = config.data.candidates
    training, held_out = listed.train_future + listed.train_random, listed.eval_random + 1
    title, words, line = SHORT_TOKENS if _knows_the_words(config) else TOKENS
    prompt = lambda titles: min(  # noqa: E731
        config.prompt.max_tokens, words + line * config.data.max_history + (title + 2) * titles
    )
    if stage.kind in ("sft", "align"):
        own = config.align if stage.kind == "align" else config.sft
        steps = own.max_steps or math.ceil(own.epochs * examples["train"] / own.global_batch)
        titles = 1 + (config.align.negatives if stage.kind == "align" else 0)
        validated = own.validations * min(own.validation_examples, examples["validation"])
        backward = 2 if config.model.lora is None else 1
        return (1 + backward) * steps * own.global_batch * (prompt(training) + title * titles) + validated * (
            prompt(held_out) + title * held_out
        )
    if stage.kind == "reference":
        return (examples["train"] + examples["validation"]) * (prompt(training) + title * training)
    if stage.kind == "evaluate" and not SYSTEMS[config.system].recommender:
        asked = sum(min(config.evaluation.max_examples or math.inf, examples["test"]) for _ in config.evaluation.splits)
        generated = 2 if config.evaluation.generate else 1
        return asked * generated * (prompt(held_out) + title * held_out)
    return 0


def _examples(run: Chain, store: Store) -> dict[str, float]:
    """How many examples each split has: of prepared data as they are, else guessed from the source's size."""
    if store.done(run.prepare.address):
        facts = store.manifest(run.prepare.address)["facts"]
        return {split: facts[f"{split}_examples"] for split in ("train", "validation", "test")}
    config, source = run.config.data, run.config.data.source
    if isinstance(source, GeneratedSource):
        users, each = float(source.users), float(source.mean_length)
    else:
        assert isinstance(source, FileSource)
        found = find(source.path, source.kind, source.files)
        files = [found] if found.is_file() else [path for path in found.rglob("*") if path.is_file()]
        users, each = sum(path.stat().st_size for path in files) / BYTES_PER_INTERACTION / INTERACTIONS_PER_USER, 60.0
    each = min(each * 0.6, config.max_train_examples_per_user or math.inf)
    return {"train": users * each, "validation": users * 0.7, "test": users * 0.7}


@cache
def speed() -> float:
    """Floating-point operations a second of this machine's cores, by a product of matrices that takes a moment.

    Where this process may use some of them alone, as in a job of Ray's (OMP_NUM_THREADS), the others count as fast.
    """
    a = np.ones((512, 512), np.float32)
    a @ a
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    cores, told = usable_cores(), os.environ.get("OMP_NUM_THREADS", "")
    threads = min(cores, int(told)) if told.isdigit() and told != "0" else cores
    return 2 * 512**3 / min(times) * cores / threads


def parameters(config: RunConfig) -> float:
    """Of the language model, those that each token meets: a guess for one that is not on this machine."""
    model = config.backbone
    if isinstance(model, ScratchModel):
        attention = 2 * model.hidden_size**2 * (1 + model.key_value_heads / model.heads)
        return model.layers * (attention + 3 * model.hidden_size * model.intermediate_size)
    assert isinstance(model, PretrainedModel)
    folder = local_folder(model)
    if folder is None and model.path in SHAPES:
        return parameters_of(SHAPES[model.path])[0]
    if folder is None:
        return 8e9
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    kind = json.loads((folder / "config.json").read_text())
    if {"num_hidden_layers", "intermediate_size", "tie_word_embeddings"} <= kind.keys():
        return parameters_of(kind)[0]
    return size / (4 if "32" in str(kind.get("dtype") or kind.get("torch_dtype") or "float32") else 2)
