"""NAPO's in-batch negatives: each user also competes against the negatives of the most similar users of the batch.

What is shared is a number, the reward of a negative under the OTHER user's prompt: no further forward pass. It is a
switch beside the objective: NAPO shares log-probs, "S-DPO + NS" shares log-ratios.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raypref.config.objective_switches import Sharing
from raypref.objectives.batch import PreferenceBatch


@dataclass(frozen=True)
class NegativePool:
    """Whose negatives each user takes, beside its own."""

    neighbours: Tensor
    """(B, n) rows of the batch, nearest first; n may be 0."""
    shared_gradient: bool = True
    """Whether a user's loss also pushes on the negatives that it borrows."""

    def extend(self, values: Tensor) -> Tensor:
        """Values of own negatives (B, K) to those of the pool (B, (1 + n) K): own first, then by nearness."""
        if self.neighbours.shape[1] == 0:
            return values
        lent = values if self.shared_gradient else values.detach()
        return torch.cat((values, lent[self.neighbours].flatten(start_dim=1)), dim=1)


def nearest(embeddings: Tensor, rho: float) -> Tensor:
    """Rows of the `floor((B - 1) rho)` users most similar to each (B, n): largest inner products first (NAPO eq. 14).

    A user is not its own neighbour. Ties go to the earlier row, so that every worker and device chooses alike.

    Args:
        embeddings: (B, D) sequence embeddings of the expert, of the global batch.
        rho: Share of the other users, in [0, 1].
    """
    others = len(embeddings) - 1
    count = int(others * rho + 1e-9)  # 1e-9: 100 * 0.29 is 28.999999999999996 in floating point, and means 29
    similarity = embeddings @ embeddings.T
    similarity = similarity.masked_fill(torch.eye(others + 1, dtype=torch.bool, device=embeddings.device), -torch.inf)
    return similarity.sort(dim=1, descending=True, stable=True).indices[:, :count]


def negative_pool(batch: PreferenceBatch, params: Sharing) -> NegativePool:
    """The pool of a global batch, from the column `sequence_embedding`; of own negatives alone if sharing is off."""
    if not params.share_negatives:
        return NegativePool(torch.empty(len(batch.policy_logps_pos), 0, dtype=torch.long))
    return NegativePool(nearest(batch.column("sequence_embedding"), params.rho), params.shared_gradient)
