"""The smallest run that is still the real thing."""

from __future__ import annotations

from typing import Any

from raypref.config import RunConfig
from raypref.config.loading import override
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import Chain, Stage
from raypref.storage.store import Store

TINY = RunConfig.model_validate(
    {
        "name": "t",
        "data": {
            "source": {"kind": "generated", "users": 60, "items": 80, "mean_length": 12},
            "k_core": 2,
            "max_train_examples_per_user": 3,
            "candidates": {"train_future": 4, "train_random": 4, "eval_random": 7},
        },
        "prompt": {"templates": 1},
        "model": {
            "kind": "scratch", "hidden_size": 32, "layers": 2, "heads": 2, "key_value_heads": 2,
            "intermediate_size": 64, "vocabulary": 400,
        },
        "sft": {"learning_rate": 3e-3, "global_batch": 16, "max_steps": 6, "validations": 1},
        "align": {"learning_rate": 1e-3, "global_batch": 16, "max_steps": 6, "validations": 1, "keep": "last"},
        "evaluation": {"max_examples": 24},
        "resources": {"engine": "torch", "threads": 1},
    }
)  # fmt: skip


def changed(**settings: Any) -> RunConfig:
    """TINY with dotted keys, their dots written as two underscores, set."""
    return override(TINY, {key.replace("__", "."): value for key, value in settings.items()}, "test")


def run(config: RunConfig, store: Store) -> tuple[Chain, list[str]]:
    """Run the whole chain; which stages there was work for."""
    plan, worked = chain(config), []

    def runner(run: Chain, stage: Stage) -> None:
        worked.append(stage.kind)
        InProcess(store)(run, stage)

    for stage in plan:
        if not store.done(stage.address):
            runner(plan, stage)
    return plan, worked
