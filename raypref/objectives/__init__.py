"""Preference objectives: pure functions of log-probs and columns, by name.

`OBJECTIVES` is all there is to dispatch: from a name to the function and the class of its hyper-parameters.
"""

from __future__ import annotations

from raypref.config import objectives as parameters
from raypref.objectives.batch import PreferenceBatch
from raypref.objectives.losses import Objective, ObjectiveOutput, dpo, recpo, sdpo

OBJECTIVES: dict[str, tuple[Objective, type[parameters.Frozen]]] = {
    "dpo": (dpo, parameters.Dpo),
    "sdpo": (sdpo, parameters.Sdpo),
    "recpo": (recpo, parameters.Recpo),
}

__all__ = ["OBJECTIVES", "Objective", "ObjectiveOutput", "PreferenceBatch"]
