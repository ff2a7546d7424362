"""Loss and ranking on held-out examples during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from raypref.evaluation.ranking import rank_of_target
from raypref.models.layout import all_candidates
from raypref.objectives import ObjectiveOutput
from raypref.training.batches import VALIDATION_EPOCH, Collator
from raypref.training.sums import MetricSums
from raypref.training.tasks import Task

if TYPE_CHECKING:
    from raypref.training.engine import Engine


@dataclass
class Validator:
    """Scores all candidates of some examples: the objective's own loss with fixed negatives, and exact HR@1."""

    tables: Sequence[pa.Table]
    collator: Collator
    micro_batch: int

    @torch.no_grad()
    def __call__(self, engine: Engine, task: Task) -> dict[str, float]:
        """Means over the examples, the same on every worker (collective).

        Under ZeRO-3 every worker must run the model equally often, so workers past the end repeat the last micro-batch
        with weight 0. A whole-batch objective sees each micro-batch as a batch of its own here.
        """
        parts = [t.slice(i, self.micro_batch) for t in self.tables for i in range(0, t.num_rows, self.micro_batch)]
        sums = MetricSums()
        seen = []
        for first in range(0, len(parts), engine.world):
            index = first + engine.rank
            part = parts[min(index, len(parts) - 1)]
            titles = all_candidates(part, self.collator.pad_id, self.collator.rows)
            titles = titles.to(engine.device)
            logps = engine.score(titles)
            reference = None if task.reference is None else task.reference.score(titles)
            seen.append((part, logps, reference, 1.0 if index < len(parts) else 0.0))
        for part, logps, reference, counts in seen:
            batch = self.collator(part, VALIDATION_EPOCH).to(engine.device)
            chosen = torch.from_numpy(self.collator.choose(part, VALIDATION_EPOCH)).to(engine.device)
            if reference is not None:
                own = reference.gather(1, chosen)
                batch.columns |= {"ref_logps_pos": own[:, 0], "ref_logps_neg": own[:, 1:]}
            preference = batch.seen(logps.gather(1, chosen))
            state = {name: value.clone() for name, value in task.state.items()}  # validation moves no running statistic
            output = task.objective(preference, task.params, state)
            hits = hits_at_1(logps, part)
            sums.add(
                ObjectiveOutput(output.losses, {**output.metrics, "hr@1": hits}), task.weights(preference) * counts
            )
        return sums.means()


def hits_at_1(logps: Tensor, part: pa.Table) -> Tensor:
    """(B,) 1 where the target is ranked first among all candidates."""
    ranks = rank_of_target(logps.float().cpu().numpy(), np.asarray(part["target"]))
    return torch.from_numpy((ranks == 1).astype(np.float32)).to(logps.device)
