"""Preference objectives: pure functions of log-probs and columns, by name.

`OBJECTIVES` is all there is to dispatch: from a name to the function and the class of its hyper-parameters. SFT is not
among them: it has no pairs; the training loop weights `-lp / n` of each title by its n tokens.
"""

from __future__ import annotations

from raypref.config.custom_objective import Custom
from raypref.config.objective_switches import COLUMNS
from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.objectives import batch_losses, list_losses, losses
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.gather import global_batch

LOSSES: dict[str, Objective] = losses.LOSSES | batch_losses.LOSSES | list_losses.LOSSES
OBJECTIVES = {name: (LOSSES[name], params) for name, params in OBJECTIVE_CONFIGS.items() if params is not Custom}
"""By name: the function, and the class of its hyper-parameters."""

__all__ = ["COLUMNS", "OBJECTIVES", "Objective", "ObjectiveOutput", "PreferenceBatch", "State", "global_batch"]
