"""adapt: a model learns the titles and histories of the training data before it is fine-tuned on them."""

from __future__ import annotations

import json
import time
from typing import Any

from raypref.config import RunConfig
from raypref.config.loading import dump
from raypref.config.model import AdaptedModel
from raypref.errors import UserError
from raypref.stages.identity import model_identity, prompt_identity, source_identity
from raypref.stages.stage import Chain, Kind, Stage, WorkerContext


def adapted(config: RunConfig, whole: dict[str, Any], prepare: Stage) -> dict[str, Stage]:
    """The stage that adapts the run's model, as `adapt`; none where the model is taken as it comes.

    It learns from what `prepare` leaves to training, so its address tells which data it has seen, and no run can take a
    model that has seen what the run is tested on.
    """
    if not isinstance(config.model, AdaptedModel):
        return {}
    before = model_identity(config.model_copy(update={"model": config.backbone}))
    content = {"model": before, "adapt": dump(config.model.adapt), "prompt": prompt_identity(whole)}
    return {"adapt": Stage(ADAPT, config.name, content, {"prepare": prepare})}


def run(chain: Chain, stage: Stage, ctx: WorkerContext) -> None:
    """Adapt the model; leave weights and tokenizer in `model/`, and how it went."""
    from raypref.models import backbone
    from raypref.pretraining import adaptation
    from raypref.training.allocator import peak_memory_gb

    model_config = chain.config.model
    assert isinstance(model_config, AdaptedModel)
    if source_identity(chain.config) != stage.inputs["prepare"].config["source"]:
        raise UserError(
            "the data have changed since they were prepared",
            where="data.source",
            hint="run the command again: it prepares them anew",
        )
    started = time.perf_counter()
    model, tokenizer, log = adaptation.adapt(chain.config, model_config.adapt)
    with ctx.store.writing(stage.address, stage.config, stage.input_addresses()) as (folder, facts):
        backbone.save(model, folder / "model")
        tokenizer.save_pretrained(folder / "model")
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log))
        facts |= {"parameters": model.num_parameters(), "steps": log[-1]["step"], "loss": log[-1]["loss"]}
        facts |= {"train_seconds": round(time.perf_counter() - started, 2), "peak_memory_gb": peak_memory_gb()}


ADAPT = Kind("adapt", 1, "worker", run)
