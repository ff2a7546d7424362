"""Objectives of the user's own, from the text of a Python file (docs/own_objective.md)."""

from __future__ import annotations

import importlib.abc
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from raypref.config.custom_objective import Custom
from raypref.config.objective_switches import COLUMNS
from raypref.errors import UserError
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State


class _Text(importlib.abc.InspectLoader):
    def __init__(self, code: str) -> None:
        self.code = code

    def get_source(self, fullname: str) -> str:
        return self.code


@cache
def _module(code: str) -> ModuleType:
    module = ModuleType("raypref_custom_objective")
    _Text(code).exec_module(module)
    return module


def custom_objective(config: Custom) -> Objective:
    """The function that `config` names, as the training loop calls it; its `params` are `config.params` as attributes.

    Raises:
        UserError: there is no code, it fails when it is loaded, or it asks for a column that no stage makes.
    """
    for name in config.reads:
        if name not in COLUMNS:
            raise UserError(
                f"there is no column '{name}'", where="align.objective.reads", hint="columns: " + ", ".join(COLUMNS)
            )
    if not config.code:
        raise UserError(
            "no file for the custom objective", where="align.objective.file", hint="name the Python file that has it"
        )
    try:
        function = getattr(_module(config.code), config.function)
    except Exception as error:
        raise UserError(
            f"the custom objective can't be loaded: {type(error).__name__}: {error}", where="align.objective.file"
        ) from error
    settings = SimpleNamespace(**config.params)

    def objective(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
        output: ObjectiveOutput = function(batch, settings, state)
        if output.losses.shape != batch.policy_logps_pos.shape:
            raise UserError(
                f"the custom objective gave losses of shape {tuple(output.losses.shape)}",
                where=f"align.objective.file, {config.function}",
                hint=f"give one loss for each example: {tuple(batch.policy_logps_pos.shape)}",
            )
        return output

    return objective
