"""What a recommender is fitted on: the training interactions, and nothing that validation or test asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypref.data.examples import Examples

KEPT_BACK_SHARE, KEPT_BACK_LEAST, KEPT_BACK_MOST = 0.1, 200, 2048


@dataclass(frozen=True)
class TrainingLog:
    """Interactions sorted by user and time, as parallel columns."""

    user: np.ndarray
    item: np.ndarray
    items: int
    """Size of the catalog: codes run from 0 to `items` - 1."""

    def sample(self, share: float, seed: int) -> TrainingLog:
        """A random share of the interactions, in their order (EAPO's study of expert quality)."""
        if share == 1:
            return self
        keep = np.random.default_rng([seed, 1]).random(len(self.user)) < share
        return TrainingLog(self.user[keep], self.item[keep], self.items)

    def keep_back(self, seed: int) -> tuple[TrainingLog, Questions]:
        """The log without the last interaction of some users, and those as questions.

        They say when to stop fitting. The validation split may not: its targets would then shape the columns by which a
        policy is trained.
        """
        starts, ends = self.ranges()
        eligible = np.flatnonzero(ends - starts >= 3)
        wanted = int(np.clip(KEPT_BACK_SHARE * len(eligible), KEPT_BACK_LEAST, KEPT_BACK_MOST))
        chosen = np.sort(np.random.default_rng([seed, 2]).permutation(eligible)[:wanted])
        questions = Questions(
            [self.item[starts[u] : ends[u] - 1] for u in chosen], self.item[ends[chosen] - 1].astype(np.int64)
        )
        keep = np.ones(len(self.user), dtype=bool)
        keep[ends[chosen] - 1] = False
        return TrainingLog(self.user[keep], self.item[keep], self.items), questions

    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """First row of each user, and the row after its last."""
        changes = np.flatnonzero(np.r_[True, self.user[1:] != self.user[:-1], True]) if len(self.user) else np.zeros(1)
        return changes[:-1].astype(np.int64), changes[1:].astype(np.int64)

    def windows(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets (W, length) int32: after each input item, the user's next one; -1 is padding, on the left.

        A sequence of more than `length` pairs is cut into several windows, from its end, so that each item is a target
        once.
        """
        starts, ends = self.ranges()
        sizes = ends - starts
        from_end = np.repeat(ends, sizes) - 1 - np.arange(len(self.user))
        target = np.flatnonzero(np.arange(len(self.user)) != np.repeat(starts, sizes))
        window, column = from_end[target] // length, length - 1 - from_end[target] % length
        owner = np.repeat(np.arange(len(starts)), sizes)[target]
        new = np.r_[True, (owner[1:] != owner[:-1]) | (window[1:] != window[:-1])]
        row = np.cumsum(new) - 1
        inputs = np.full((int(new.sum()) if len(target) else 0, length), -1, dtype=np.int32)
        targets = inputs.copy()
        inputs[row, column], targets[row, column] = self.item[target - 1], self.item[target]
        return inputs, targets


@dataclass(frozen=True)
class Questions:
    """Which item came next?"""

    histories: list[np.ndarray]
    """Of each question the items before, oldest first."""
    answers: np.ndarray
    """(n,) the items that came next."""
    candidates: np.ndarray | None = None
    """(n, C) lists to choose from, in which each answer stands once; None: the whole catalog."""


def training_log(examples: Examples, items: int) -> TrainingLog:
    """The interactions from which training examples are cut, of a catalog of `items`."""
    user, item = examples.training_interactions()
    return TrainingLog(user, item, items)


def validation_questions(tables: Sequence[pa.Table]) -> Questions:
    """The examples of a validation split, lists and all."""
    table = pa.concat_tables(tables)
    candidates, target = np.array(table["candidates"].to_pylist()), table["target"].to_numpy()
    histories = [np.array(history, dtype=np.int64) for history in table["history"].to_pylist()]
    return Questions(histories, candidates[np.arange(len(target)), target].astype(np.int64), candidates)
