"""From a filtered log to preference examples, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from raypref.config.data import DataConfig
from raypref.data.candidates import NeverInteracted, draws, keys
from raypref.data.filtering import k_core, ratings
from raypref.data.schema import EXAMPLES, Log
from raypref.data.splitting import SPLITS, Split, split
from raypref.errors import UserError

SHARD_ROWS = 2048
ORDER_COUNTER = 1 << 20  # counters of the draws that order a list: past any that sample one
DAY = 86_400.0


class ExampleBuilder:
    """Cuts a log once; then builds any shard of any split from columns in memory.

    Shuffling training examples is done on row numbers alone, so no example exists before its shard is built.
    """

    def __init__(self, log: Log, config: DataConfig) -> None:
        self.config = config
        self.interactions = k_core(log.interactions, config.k_core)
        self.user = self.interactions["user"].to_numpy()
        self.item = self.interactions["item"].to_numpy()
        self.position = self.interactions["position"].to_numpy()
        self.rating = ratings(self.interactions)
        self.timestamp = self.interactions["timestamp"].to_numpy() if log.has_times else None
        self.split: Split = split(config, self.user, self.position, self.rating, self.timestamp)
        self.unseen = NeverInteracted(self.user, self.item)
        c = config.candidates
        self.unseen.check(max(c.train_future + c.train_random - 1, c.eval_random), "data.candidates")
        rng = np.random.default_rng(config.seed)
        self._rows = {"train": rng.permutation(self.split.targets["train"])}
        self._rows |= {name: self.split.targets[name] for name in SPLITS[1:]}

    def rows(self, name: str) -> int:
        """Number of examples of a split."""
        return len(self._rows[name])

    def shards(self, name: str) -> Iterator[pa.Table]:
        """The split's examples as tables of `SHARD_ROWS` rows, `schema.EXAMPLES`."""
        for first in range(0, self.rows(name), SHARD_ROWS):
            yield self._build(name, first, self._rows[name][first : first + SHARD_ROWS])

    def _build(self, name: str, first: int, target: np.ndarray) -> pa.Table:
        user, position = self.user[target], self.position[target]
        key = keys(self.config.seed, user, position)
        future = self.config.candidates.train_future if name == "train" else 1
        extra = self.config.candidates.train_random if name == "train" else self.config.candidates.eval_random
        width = future + extra
        # Candidates as rows of the interaction table (-1: a random item), the target first.
        later = target[:, None] + np.arange(future)
        own = np.where(later < np.maximum(self.split.horizon[target], target + 1)[:, None], later, -1)
        own = self._drop_repeats(own)
        row = np.concatenate([own, np.full((len(target), extra), -1)], axis=1)
        item = np.where(row >= 0, self.item[row], self.unseen.sample(key, user, width))
        order = np.argsort(draws(key, ORDER_COUNTER + np.arange(width)), axis=1)
        row, item = np.take_along_axis(row, order, axis=1), np.take_along_axis(item, order, axis=1)
        known = row >= 0
        days = np.nan
        if self.timestamp is not None:
            days = (self.timestamp[row] - self.timestamp[target - 1][:, None]) / DAY
        history, lengths = self._history(target, position)
        return pa.table(
            {
                "example": np.arange(first, first + len(target)),
                "user": user,
                "position": position,
                "timestamp": self.timestamp[target] if self.timestamp is not None else pa.nulls(len(target), pa.int64()),
                "history": _lists(self.item[history], lengths),
                "history_rating": _lists(self.rating[history], lengths),
                "candidates": _rectangle(item, pa.int32()),
                "target": np.argmin(order, axis=1).astype(np.int32),
                "rating": _rectangle(np.where(known, self.rating[row], np.nan), pa.float32()),
                "latency": _rectangle(np.where(known, row - target[:, None] + 1, np.nan), pa.float32()),
                "latency_days": _rectangle(np.where(known, days, np.nan), pa.float32()),
            },
            schema=EXAMPLES,
        )

    def _drop_repeats(self, own: np.ndarray) -> np.ndarray:
        """A user may meet an item twice: a later meeting is no further candidate."""
        item = np.where(own >= 0, self.item[own], -1 - np.arange(own.shape[1]))
        repeated = (item[:, :, None] == item[:, None, :]) & np.tri(own.shape[1], k=-1, dtype=bool)
        return np.where(repeated.any(axis=2), -1, own)

    def _history(self, target: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the interactions shown before each target, flat, oldest first, and how many each has."""
        lengths = np.minimum(position, self.config.max_history)
        starts = np.cumsum(lengths) - lengths
        within = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        return np.repeat(target - lengths, lengths) + within, lengths


def check_negatives(negatives: int, config: DataConfig) -> None:
    """Refuse more negatives than an example has candidates beside its target."""
    available = config.candidates.train_future + config.candidates.train_random - 1
    if negatives > available:
        raise UserError(
            f"{negatives} negatives are asked for, but an example has {available} candidates beside its target",
            where="align.negatives",
            mend=f"take at most {available}, or raise data.candidates.train_random",
        )


def _lists(flat: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), pa.array(flat))


def _rectangle(values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    flat = pa.array(values.reshape(-1).astype(kind.to_pandas_dtype()), kind)
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), flat)
