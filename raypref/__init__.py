"""Experiments with preference optimization for LLM recommenders, distributed on Ray.

What scripts of your own need of the package; each name is imported when it is first asked for, so `import raypref`
costs nothing. Contract checks for tests of your own are in `raypref.testing`; all else is reached by the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raypref.version import __version__ as __version__

if TYPE_CHECKING:
    from raypref.objectives import COLUMNS, OBJECTIVES, ObjectiveOutput, PreferenceBatch
    from raypref.objectives.rewards import log_probs, log_ratios, per_token
    from raypref.sweeps.job import main as sweep

__all__ = [
    "COLUMNS",
    "OBJECTIVES",
    "ObjectiveOutput",
    "PreferenceBatch",
    "log_probs",
    "log_ratios",
    "per_token",
    "sweep",
]

_ORIGINS = {
    "COLUMNS": "raypref.objectives:COLUMNS",
    "OBJECTIVES": "raypref.objectives:OBJECTIVES",
    "ObjectiveOutput": "raypref.objectives:ObjectiveOutput",
    "PreferenceBatch": "raypref.objectives:PreferenceBatch",
    "log_probs": "raypref.objectives.rewards:log_probs",
    "log_ratios": "raypref.objectives.rewards:log_ratios",
    "per_token": "raypref.objectives.rewards:per_token",
    "sweep": "raypref.sweeps.job:main",
}


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module 'raypref' has no attribute '{name}'")
    module, _, attribute = _ORIGINS[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
