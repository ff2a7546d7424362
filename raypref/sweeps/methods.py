"""Methods by name, as a benchmark lists them: what each changes in a run's config, and what its seed is."""

from __future__ import annotations

from typing import Any

from raypref.config import RunConfig
from raypref.config.base import lookup
from raypref.config.loading import dump
from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.config.recommender import BASELINES, FittedConfig
from raypref.config.systems import SYSTEMS

METHOD = "method"
"""What a benchmark varies: no config key, but a name that stands for several."""
SEEDLESS = (*(name for name, system in SYSTEMS.items() if system.seed is None), "popularity")
"""Methods that no seed changes: one trial each."""
NAMED = tuple(name for name in SYSTEMS if SYSTEMS[name].varied == "system")
"""Systems that are methods by themselves; of the others a method is one of many."""


def method_changes(name: str, base: RunConfig) -> dict[str, Any]:
    """Config changes that make `base` a run of the method: a baseline, an objective, or a system by its name.

    A fitted baseline takes over what `base.baseline` sets and all fitted ones share; an objective that `base` has keeps
    its parameters, and `custom` its file.

    Raises:
        UserError: no method has that name.
    """
    objectives = tuple(OBJECTIVE_CONFIGS)
    lookup(name, dict.fromkeys((*BASELINES, *NAMED, *objectives)), "method")
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
    return {key: seed} | ({"sft.seed": seed} if whole and key == "align.seed" else {})


def seed_key(config: RunConfig) -> str | None:
    """The config key that repetitions vary; None where no seed changes the result."""
    system = SYSTEMS[config.system]
    return None if system.recommender and config.baseline.recommender in SEEDLESS else system.seed
