"""What any recommender must beat: chance, and fame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raypref.config import recommender as configs
from raypref.recommenders.log import TrainingLog
from raypref.recommenders.recommender import Recommender


class Random(Recommender):
    """Scores drawn from the seed and the list alone, so the same list has the same order on any worker."""

    config: configs.Random

    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
        drawn = [np.random.default_rng([self.config.seed, *map(int, row)]).random(len(row)) for row in candidates]
        return torch.from_numpy(np.stack(drawn).astype(np.float32))


class Popularity(Recommender):
    """The number of training interactions of each item."""

    counts: Tensor

    def __init__(self, config: configs.Popularity, items: int) -> None:
        super().__init__(config, items)
        self.register_buffer("counts", torch.zeros(items))

    def count(self, log: TrainingLog) -> Popularity:
        """The same, with the counts of `log`."""
        self.counts = torch.from_numpy(np.bincount(log.item, minlength=self.items)).float()
        return self

    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
        return self.counts[torch.from_numpy(np.asarray(candidates)).long()]
