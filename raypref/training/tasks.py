"""From config to what the loop minimizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raypref.config.training import AlignConfig, TrainingConfig, needs_reference
from raypref.objectives import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.acting import acting_metrics
from raypref.objectives.mixture import function_of
from raypref.objectives.negatives import choose_negatives
from raypref.training.batches import CANDIDATE_COLUMNS, EXAMPLE_COLUMNS, TargetBatch
from raypref.training.moving_reference import MovingReference
from raypref.training.negatives import DRAWN, NegativeChoice


@dataclass
class Task:
    """What is minimized: an objective with its parameters, over examples with K negatives."""

    objective: Callable[[Any, Any, dict[str, Tensor]], ObjectiveOutput]
    params: Any
    negatives: int
    choice: NegativeChoice = DRAWN
    """Which candidates the negatives are."""
    whole_batch: bool = False
    """The loss of an example depends on the rest of the global batch (negative sharing, batch statistics)."""
    by_token: bool = False
    """The batch's loss is the mean over its tokens (SFT), not over its examples."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """Running statistics of the objective, kept with the checkpoints."""
    reference: MovingReference | None = None
    """Where the reference moves: made when training begins."""

    def __call__(self, batch: PreferenceBatch | TargetBatch) -> ObjectiveOutput:
        output = self.objective(batch, self.params, self.state)
        if isinstance(batch, TargetBatch):
            return output
        return output._replace(metrics=output.metrics | acting_metrics(batch, output))

    def weights(self, batch: PreferenceBatch | TargetBatch) -> Tensor:
        """(B,) how much each example's loss counts."""
        return batch.tokens_pos.float() if self.by_token else torch.ones_like(batch.tokens_pos, dtype=torch.float32)


def sft(batch: TargetBatch, params: None, state: dict[str, Tensor]) -> ObjectiveOutput:
    """`-lp / n` (B,) of the preferred title; weighted by its n tokens it is the mean over the batch's title tokens."""
    return ObjectiveOutput(-batch.policy_logps_pos / batch.tokens_pos, {"logp_pos": batch.policy_logps_pos.detach()})


def task_of(config: TrainingConfig) -> Task:
    """SFT for a plain training config, the objective of an alignment config."""
    if not isinstance(config, AlignConfig):
        return Task(sft, None, negatives=0, by_token=True)
    loss = config.loss
    choice = NegativeChoice(config.negatives_from, config.negatives_by, config.negatives_share)
    function = function_of(loss)
    if choice.by_policy:
        function = _choosing(function, config.negatives, choice)
    return Task(function, loss, config.negatives, choice, whole_batch=loss.scope == "batch")


def _choosing(function: Objective, count: int, choice: NegativeChoice) -> Objective:
    """The loss over the negatives that the policy chooses among all."""

    def chosen(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
        return function(choose_negatives(batch, count, choice.by, choice.share), params, state)

    return chosen


def table_columns(config: TrainingConfig) -> list[str]:
    """Columns of the example table that training reads."""
    columns = ["prompt_ids", "title_ids", "target"]
    if not isinstance(config, AlignConfig):
        return columns
    if needs_reference(config):
        columns.append("ref_logps")
    wanted: tuple[Any, ...] = tuple(config.loss.columns)
    chosen_by = NegativeChoice(config.negatives_from, config.negatives_by).columns
    columns += [
        stored
        for stored, name in CANDIDATE_COLUMNS.items()
        if stored in chosen_by or any(w.rsplit("_", 1)[0] in (name, f"{name}_all") for w in wanted)
    ]
    return columns + [name for name in EXAMPLE_COLUMNS if name in wanted]
