"""A weighted sum of losses, as one objective; and the function behind each hyper-parameter class."""

from __future__ import annotations

from typing import Any

import torch

from raypref.config.custom_objective import Custom
from raypref.config.mixture import Mixture, Part
from raypref.objectives import OBJECTIVES
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.custom import custom_objective
from raypref.objectives.rewards import log_probs, per_token


def function_of(params: Any) -> Objective:
    """The loss that `params` configures: one of raypref's, a mixture, or the user's own."""
    if isinstance(params, Mixture):
        return mixture
    return custom_objective(params) if isinstance(params, Custom) else OBJECTIVES[params.name][0]


def mixture(batch: PreferenceBatch, params: Mixture, state: State) -> ObjectiveOutput:
    """`sum_i w_i loss_i`: for instance S-DPO beside `-lp / n_p`, so that the preferred title stays likely (RPO, DPO-P).

    Each part keeps its running means under its own name in `state`. The metrics are those of the first preference loss,
    and `loss_<name>` of each part.
    """
    total = torch.zeros_like(log_probs(batch)[0])
    metrics: dict[str, torch.Tensor] = {}
    for part in params.parts:
        output = _output(batch, part, state)
        total = total + part.weight * output.losses
        metrics = output.metrics | metrics | {f"loss_{part.name}": output.losses.detach()}
    return ObjectiveOutput(total, metrics)


def _output(batch: PreferenceBatch, part: Part, state: State) -> ObjectiveOutput:
    if part.objective is None:
        return ObjectiveOutput(-per_token(batch, log_probs(batch))[0], {})
    prefix = f"{part.name}/"
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    output = function_of(part.objective)(batch, part.objective, own)
    state.update({prefix + name: value for name, value in own.items()})
    return output
