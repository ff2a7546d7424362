"""Which interactions are targets, and which of train, validation and test each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raypref.config.data import DataConfig
from raypref.data.filtering import user_ranges
from raypref.errors import UserError

SPLITS = ("train", "validation", "test")
LIKED = 4.0


@dataclass(frozen=True)
class Split:
    """Rows of the interaction table that are targets, by split, and how far each user's training data reach."""

    targets: dict[str, np.ndarray]
    """Row numbers of the targets of each split, ascending."""
    horizon: np.ndarray
    """(rows,) for each interaction the row at which its user's training data end, exclusive."""


def split(
    config: DataConfig, user: np.ndarray, position: np.ndarray, rating: np.ndarray, timestamp: np.ndarray | None
) -> Split:
    """Cut a log, sorted by (user, position), as `config.split` says.

    leave-last-two (RecPO): of each user's targets the last tests, the one before validates, the others train.
    user (S-DPO, NAPO): users 8:1:1; validation and test users give their last target only.
    time (EAPO): two global times cut the log 8:1:1; a target belongs where its own time lies.

    Raises:
        UserError: the log has no times but the split needs an order, or `recpo` targets but no ratings.
    """
    if timestamp is None:
        raise UserError(
            "this data set has no times, so there is no next item to predict",
            where=f"data.split = {config.split}",
            mend="name a time column, or use a data set with times",
        )
    target = position >= config.min_history
    if config.target == "recpo":
        if np.isnan(rating).all():
            raise UserError("targets rated 4 or 5 need ratings", where="data.target = recpo", mend="set data.target to next")
        target &= rating >= LIKED
    starts, lengths = user_ranges(user)
    owner = np.repeat(np.arange(len(starts)), lengths)  # dense user number of each row
    ends = np.repeat(starts + lengths, lengths)
    rows = np.flatnonzero(target)
    from_last = _places_from_last(owner[rows])
    if config.split == "leave-last-two":
        part = np.where(from_last == 0, 2, np.where(from_last == 1, 1, 0))
        horizon = ends.copy()
        first_held_out = np.full(len(starts), len(user))
        np.minimum.at(first_held_out, owner[rows[part > 0]], rows[part > 0])
        horizon = np.minimum(ends, first_held_out[owner])
    elif config.split == "user":
        part_of_user = np.repeat([0, 1, 2], _eight_one_one(len(starts)))
        np.random.default_rng(config.seed).shuffle(part_of_user)
        part = part_of_user[owner[rows]]
        keep = (part == 0) | (from_last == 0)
        rows, part, horizon = rows[keep], part[keep], ends
    else:
        first, second = np.quantile(timestamp, [0.8, 0.9], method="higher")
        part = np.where(timestamp[rows] >= second, 2, np.where(timestamp[rows] >= first, 1, 0))
        late = np.flatnonzero(timestamp >= first)
        first_late = np.full(len(starts), len(user))
        np.minimum.at(first_late, owner[late], late)
        horizon = np.minimum(ends, first_late[owner])
    targets = {name: rows[part == i] for i, name in enumerate(SPLITS)}
    empty = [name for name, chosen in targets.items() if len(chosen) == 0]
    if empty:
        raise UserError(
            f"no example is left for {', '.join(empty)}",
            where=f"data.split = {config.split}, data.target = {config.target}, data.min_history = {config.min_history}",
            mend="take more users, a smaller data.k_core, a smaller data.min_history, or data.target next",
        )
    if config.max_train_examples_per_user is not None:
        train = targets["train"]
        targets["train"] = train[_places_from_last(owner[train]) < config.max_train_examples_per_user]
    return Split(targets, horizon)


def _places_from_last(owner: np.ndarray) -> np.ndarray:
    """0 for the last row of each run of equal owners, 1 for the one before, ..."""
    if len(owner) == 0:
        return np.zeros(0, dtype=np.int64)
    starts, lengths = user_ranges(owner)
    return np.repeat(starts + lengths, lengths) - 1 - np.arange(len(owner))


def _eight_one_one(n: int) -> list[int]:
    tenth = max(n // 10, 1)
    return [n - 2 * tenth, tenth, tenth]
