"""From config to what the loop minimizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from raypref.config.objectives import Custom
from raypref.config.training import AlignConfig, TrainingConfig, needs_reference
from raypref.objectives import OBJECTIVES, ObjectiveOutput
from raypref.objectives.custom import custom_objective
from raypref.training.batches import CANDIDATE_COLUMNS, EXAMPLE_COLUMNS, TargetBatch
from raypref.training.loop import Task


def sft(batch: TargetBatch, params: None, state: dict[str, Tensor]) -> ObjectiveOutput:
    """`-lp / n` (B,) of the preferred title; weighted by its n tokens it is the mean over the batch's title tokens."""
    return ObjectiveOutput(-batch.policy_logps_pos / batch.tokens_pos, {"logp_pos": batch.policy_logps_pos.detach()})


def task_of(config: TrainingConfig) -> Task:
    """SFT for a plain training config, the objective of an alignment config."""
    if not isinstance(config, AlignConfig):
        return Task(sft, None, negatives=0, by_token=True)
    own = config.objective
    function = custom_objective(own) if isinstance(own, Custom) else OBJECTIVES[own.name][0]
    return Task(function, config.objective, negatives=config.negatives, whole_batch=config.objective.scope == "batch")


def table_columns(config: TrainingConfig) -> list[str]:
    """Columns of the example table that training reads."""
    columns = ["prompt_ids", "title_ids", "target"]
    if not isinstance(config, AlignConfig):
        return columns
    if needs_reference(config):
        columns.append("ref_logps")
    wanted: tuple[Any, ...] = tuple(config.objective.columns)
    columns += [
        c for c, name in CANDIDATE_COLUMNS.items() if any(w.rsplit("_", 1)[0] in (name, f"{name}_all") for w in wanted)
    ]
    return columns + [name for name in EXAMPLE_COLUMNS if name in wanted]
