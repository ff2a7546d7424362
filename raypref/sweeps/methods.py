"""Methods by name, as a benchmark lists them: what each changes in a run's config, and what its seed is."""

from __future__ import annotations

from typing import Any

from raypref.config import RunConfig
from raypref.config.base import pick
from raypref.config.loading import dump
from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.config.recommender import BASELINES, FittedConfig

METHOD = "method"
"""What a benchmark varies: no config key, but a name that stands for several."""
SEED_KEYS = {
    "aligned": "align.seed",
    "sft": "sft.seed",
    "tallrec": "sft.seed",
    "llara": "sft.seed",
    "baseline": "baseline.seed",
}
SEEDLESS = ("zero-shot", "chatrec", "popularity")
"""Methods that no seed changes: one trial each."""


def method_changes(name: str, base: RunConfig) -> dict[str, Any]:
    """Config changes that make `base` a run of the method: a baseline, an objective, or a system by its name.

    A fitted baseline takes over what `base.baseline` sets and all fitted ones share; an objective that `base` has keeps
    its parameters, and `custom` its file.

    Raises:
        UserError: no method has that name.
    """
    objectives = tuple(OBJECTIVE_CONFIGS)
    pick(name, dict.fromkeys((*BASELINES, "zero-shot", "chatrec", "sft", "tallrec", "llara", *objectives)), "method")
    if name in BASELINES:
        shared = dump(base.baseline) if isinstance(base.baseline, FittedConfig) else {}
        shared = {k: v for k, v in shared.items() if k in FittedConfig.model_fields}
        floor = name in ("random", "popularity")
        return {"system": "baseline", "baseline": {**({} if floor else shared), "recommender": name}}
    if name in objectives:
        return {"system": "aligned", "align.objective": {"name": name}}
    return {"system": name}


def seed_changes(config: RunConfig, seed: int, whole: bool) -> dict[str, int]:
    """Config changes that make a run the repetition number `seed`; `whole`: of fine-tuning too, where it is aligned."""
    key = seed_key(config)
    if key is None:
        return {}
    return {key: seed} | ({SEED_KEYS["sft"]: seed} if whole and config.system == "aligned" else {})


def seed_key(config: RunConfig) -> str | None:
    """The config key that repetitions vary; None where no seed changes the result."""
    if config.system == "baseline" and config.baseline.recommender in SEEDLESS:
        return None
    return SEED_KEYS.get(config.system)
