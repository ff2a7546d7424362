"""Preference objectives: pure functions of log-probs and columns, by name.

`OBJECTIVES` is all there is to dispatch: from a name to the function and the class of its hyper-parameters. SFT is not
among them: it has no pairs; the training loop weights `-lp / n` of each title by its n tokens.
"""

from __future__ import annotations

from raypref.config import list_objectives
from raypref.config import objectives as parameters
from raypref.config.objective_switches import COLUMNS
from raypref.objectives import batch_losses, list_losses, losses
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.gather import global_batch

OBJECTIVES: dict[str, tuple[Objective, type[parameters.Objective]]] = {
    "dpo": (losses.dpo, parameters.Dpo),
    "ipo": (losses.ipo, parameters.Ipo),
    "cpo": (losses.cpo, parameters.Cpo),
    "simpo": (losses.simpo, parameters.Simpo),
    "rosepo": (losses.rosepo, parameters.Rosepo),
    "dmpo": (losses.dmpo, parameters.Dmpo),
    "sdpo": (losses.sdpo, parameters.Sdpo),
    "sims-dpo": (losses.sims_dpo, parameters.SimsDpo),
    "recpo": (losses.recpo, parameters.Recpo),
    "napo": (batch_losses.napo, parameters.Napo),
    "eapo": (losses.eapo, parameters.Eapo),
    "ea-sdpo": (losses.ea_sdpo, parameters.EaSdpo),
    "ea-ipo": (losses.ea_ipo, parameters.EaIpo),
    "ea-cpo": (losses.ea_cpo, parameters.EaCpo),
    "alpha-dpo": (batch_losses.alpha_dpo, parameters.AlphaDpo),
    "beta-dpo": (batch_losses.beta_dpo, parameters.BetaDpo),
    "mppo": (list_losses.mppo, list_objectives.Mppo),
    "dynamicpo": (list_losses.dynamicpo, list_objectives.DynamicPo),
    "list-pg": (list_losses.list_pg, list_objectives.ListPg),
}
"""By name: the function, and the class of its hyper-parameters."""

__all__ = ["COLUMNS", "OBJECTIVES", "Objective", "ObjectiveOutput", "PreferenceBatch", "State", "global_batch"]
