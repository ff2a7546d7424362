"""features, try, tune and fit: a baseline is fitted on the training interactions, its penalty chosen by validation."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from raypref.config import RunConfig
from raypref.config.model import ScratchModel
from raypref.config.recommender import BaselineConfig
from raypref.stages.adapt import adapted
from raypref.stages.identity import model_identity
from raypref.stages.prepare import titles_of, training_log_of, validation_questions_of
from raypref.stages.stage import Chain, Kind, Stage, WorkerContext
from raypref.storage.store import MANIFEST


def baseline_stages(config: RunConfig, whole: dict[str, Any], prepare: Stage) -> tuple[tuple[Stage, ...], Stage]:
    """The shared stages of a baseline, and its fit; `whole`: the config, JSON-ready.

    Several penalties are tried once, with seed 0; each seed then takes the best.
    """
    name, recommender, inputs = config.name, whole["baseline"], {"prepare": prepare}
    if recommender["recommender"] == "morec":
        encoder = model_identity(config.model_copy(update={"model": config.model.model_copy(update={"lora": None})}))
        inputs |= adapted(config, whole, prepare)
        inputs["features"] = Stage(FEATURES, name, {"model": encoder}, dict(inputs))
    shared = list(inputs.values())
    penalties = recommender.get("l2", ())
    if len(penalties) > 1:
        tried = {f"{l2:g}": {**recommender, "seed": 0, "l2": [l2]} for l2 in penalties}
        tries = {l2: Stage(TRY, name, {"recommender": content}, dict(inputs)) for l2, content in tried.items()}
        inputs["tune"] = Stage(TUNE, name, {"l2": penalties}, tries)
        shared += [*tries.values(), inputs["tune"]]
    return tuple(shared), Stage(FIT, name, {"recommender": recommender}, inputs)


def encode(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """Features of all titles, for a recommender that reads them."""
    if ctx.rank == 0:
        prepared = stage.input_paths(ctx.store)["prepare"]
        with ctx.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, facts):
            facts |= _encode_titles(chain.config, prepared, folder)


def try_penalty(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """A baseline fitted with seed 0 and one of its L2 penalties."""
    config: BaselineConfig = TypeAdapter(BaselineConfig).validate_python(stage.config["recommender"])
    _fit(config, stage, ctx)


def choose(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """Of a baseline's tries the one that ranks the validation split best, of equals the first penalty's."""
    facts = {name: ctx.store.manifest(tried.address)["facts"] for name, tried in stage.inputs.items()}
    values = {name: facts[name]["tried"][name] for name in (f"{l2:g}" for l2 in stage.config["l2"])}
    best = max(values, key=lambda name: values[name])  # the first of the greatest
    if ctx.rank == 0:
        _copy(stage.inputs[best], stage, ctx, facts[best] | {"tried": values})


def fit(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """A baseline, fitted on the training interactions and stopped by the validation split."""
    config: Any = chain.config.baseline
    tuned = stage.inputs.get("tune")
    if tuned is None:
        _fit(config, stage, ctx)
        return
    facts = ctx.store.manifest(tuned.address)["facts"]
    if config.seed != 0:
        _fit(config.model_copy(update={"l2": (facts["l2"],)}), stage, ctx)
    elif ctx.rank == 0:  # that fit has been made
        _copy(tuned, stage, ctx, facts)


def _copy(made: Stage, stage: Stage, ctx: WorkerContext, facts: dict[str, Any]) -> None:
    """Publish what another stage left as this one's."""
    with ctx.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, manifest_facts):
        shutil.copytree(
            ctx.store.path(made.address), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST)
        )
        manifest_facts |= facts


def _fit(config: BaselineConfig, stage: Stage, ctx: WorkerContext) -> None:
    from raypref.recommenders import Group, fitted
    from raypref.stages.policy import device
    from raypref.training.allocator import peak_memory_gb

    started = time.perf_counter()
    prepared = stage.input_paths(ctx.store)["prepare"]
    encoded = stage.inputs.get("features")
    features = None if encoded is None else np.load(ctx.store.path(encoded.address) / "features.npy")
    log, questions = training_log_of(prepared), validation_questions_of(prepared)
    recommender, facts = fitted(config, log, device(), questions, Group(ctx.rank, ctx.world), features)
    if ctx.rank == 0:
        with ctx.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, manifest_facts):
            recommender.save(folder / "model")
            lines = [json.dumps(point) for point in facts.pop("curve", [])]
            (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
            seconds = round(time.perf_counter() - started, 2)
            manifest_facts |= {**facts, "train_seconds": seconds, "peak_memory_gb": peak_memory_gb()}


def _encode_titles(config: RunConfig, prepared: Path, folder: Path) -> dict[str, Any]:
    """What the run's model, as it comes, makes of each title: `features.npy` (items, width)."""
    from raypref.models import backbone
    from raypref.models.title_features import title_features
    from raypref.stages.policy import device
    from raypref.stages.tokenize import make_tokenizer

    titles = titles_of(prepared)
    if isinstance(config.backbone, ScratchModel):
        tokenizer = backbone.train_tokenizer((f"{title}\n" for title in titles), config.backbone.vocabulary)
    else:
        tokenizer = make_tokenizer(config, {"prepare": prepared})
    model: Any = backbone.build(config.backbone.model_copy(update={"lora": None}), tokenizer)
    features = title_features(model.to(device()), tokenizer, titles)
    np.save(folder / "features.npy", features)
    return {"items": len(features), "width": features.shape[1]}


FEATURES = Kind("features", 1, "worker", encode)
TRY = Kind("try", 1, "worker", try_penalty)
TUNE = Kind("tune", 2, "here", choose)
FIT = Kind("fit", 2, "group", fit)
