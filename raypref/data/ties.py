"""Ties in time: how many targets share theirs with another interaction, so that chance decided which came last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Ties:
    """Of held-out examples."""

    users: int
    """Users with a held-out target."""
    tied: int
    """Of them, those with one that shares its time with another interaction of theirs."""
    by_id: float
    """Share of lists in which the highest (or the lowest, whichever is better) item id is the target."""
    chance: float

    @property
    def said(self) -> str:
        share = self.tied / self.users if self.users else 0.0
        order = "; which came last is drawn, by no file's order" if self.tied else ""
        return (
            f"ties: {share:.1%} of {self.users:,} users have a target that shares its time with another of their "
            f"interactions{order}; guessing by item id is right in {self.by_id:.1%}, chance is {self.chance:.1%}"
        )


def tied_rows(interactions: pa.Table) -> np.ndarray:
    """(rows,) whether a user has another interaction at the same time; the table is sorted by user and time."""
    user = interactions["user"].to_numpy()
    times = interactions["timestamp"].fill_null(0).to_numpy()
    same = (user[1:] == user[:-1]) & (times[1:] == times[:-1])
    tied: np.ndarray = np.r_[False, same] | np.r_[same, False]
    return tied


def repeated_rows(interactions: pa.Table) -> int:
    """How many rows have user, item and time of an earlier one."""
    distinct = interactions.select(["user", "item", "timestamp"]).group_by(["user", "item", "timestamp"]).aggregate([])
    return interactions.num_rows - distinct.num_rows


def ties(interactions: pa.Table, held_out: Iterable[pa.Table], item_ids: pa.ChunkedArray) -> Ties:
    """What held-out examples (`schema.EXAMPLES`), cut from `interactions`, owe to ties and to ids."""
    user, position = interactions["user"].to_numpy(), interactions["position"].to_numpy()
    width = int(position.max(initial=0)) + 1
    key = user.astype(np.int64) * width + position
    tied_keys = key[tied_rows(interactions)]
    rank = _rank(item_ids)
    users, tied_users = [], []
    highest = lowest = chance = 0.0
    lists = 0
    for table in held_out:
        owner = table["user"].to_numpy()
        users.append(owner)
        tied_users.append(owner[np.isin(owner.astype(np.int64) * width + table["position"].to_numpy(), tied_keys)])
        for candidates, target in zip(table["candidates"].to_pylist(), table["target"].to_pylist()):
            ids = rank[candidates]
            highest += ids[target] == ids.max()
            lowest += ids[target] == ids.min()
            chance += 1 / len(ids)
            lists += 1
    count = max(lists, 1)
    return Ties(_distinct(users), _distinct(tied_users), max(highest, lowest) / count, chance / count)


def _distinct(parts: list[np.ndarray]) -> int:
    return len(np.unique(np.concatenate(parts))) if parts else 0


def _rank(item_ids: pa.ChunkedArray) -> np.ndarray:
    """(items,) place of each item's raw id: as numbers where all are, else as text."""
    if pc.all(pc.match_substring_regex(item_ids, r"^\d{1,18}$")).as_py():
        return np.asarray(item_ids.cast(pa.int64())).argsort().argsort()
    return np.arange(len(item_ids))  # items are coded in the order of their ids
