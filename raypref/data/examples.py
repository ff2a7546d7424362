"""From a filtered log to preference examples, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypref.config.data import CutConfig
from raypref.data.candidates import NeverInteracted, draws, keys
from raypref.data.filtering import first_meetings, k_core, ratings
from raypref.data.schema import EXAMPLES, Log, PublishedLog
from raypref.data.splitting import (
    LIKED,
    SPLITS,
    Probe,
    Split,
    check_not_empty,
    last_of_each_user,
    most_useful,
    probes,
    split,
)
from raypref.errors import UserError

SHARD_ROWS = 2048
ORDER_COUNTER = 1 << 20  # counters of the draws that order a list: past any that sample one
DAY = 86_400.0


@dataclass(frozen=True)
class _Columns:
    """The interactions that a set of examples is cut from, as columns sorted by (user, position)."""

    user: np.ndarray
    item: np.ndarray
    position: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    place: np.ndarray
    """0-based place within the user's rows here."""
    unseen: NeverInteracted


class ExampleBuilder:
    """Cuts a log once; then builds any shard of any split from columns in memory.

    Sets by name: train, validation, test (`SPLITS`), and the `PROBES`, which may be empty. Shuffling training examples
    is done on row numbers alone, so no example exists before its shard is built.

    Attributes:
        interactions: the log after first meetings and k-core; `user`, `item`, `position`, `rating`, `timestamp` are its
            columns.
        split: the targets and the horizon of training, as rows of `interactions`.
        train_counts: (items,) how often each item occurs in the training data.
    """

    def __init__(self, log: Log, config: CutConfig) -> None:
        self.config = config
        self.interactions = k_core(first_meetings(log.interactions), config.k_core)
        self.user = self.interactions["user"].to_numpy()
        self.item = self.interactions["item"].to_numpy()
        self.position = self.interactions["position"].to_numpy()
        self.rating = ratings(self.interactions)
        self.timestamp = self.interactions["timestamp"].to_numpy() if log.has_times else None
        cut: Split = split(config, self.user, self.position, self.rating, self.timestamp)
        assert self.timestamp is not None  # split refuses a log without times
        cold_user, cold_item = (
            self._withheld(self.user, config.cold_users, 1),
            self._withheld(self.item, config.cold_items, 2),
        )
        warm = ~(cold_user | cold_item)
        trains = (np.arange(len(self.user)) < cut.horizon) & warm
        self.train_counts = np.bincount(self.item[trains], minlength=log.items.num_rows)
        self.unseen = NeverInteracted(self.user, self.item)
        self._all = _Columns(
            self.user, self.item, self.position, self.rating, self.timestamp, self.position, self.unseen
        )
        self._train, self._train_horizon = self._all, cut.horizon
        targets = dict(cut.targets)
        if not warm.all():
            targets = self._without_cold(targets, warm, cut.horizon)
        check_not_empty(targets, config)
        self.split = Split(cut.targets if warm.all() else {**targets, "train": cut.targets["train"]}, cut.horizon)
        c = config.candidates
        self.unseen.check(c.eval_random + 1, c)
        self._train.unseen.check(c.train_future + c.train_random, c)
        self._cuts = {name: Probe(targets[name], targets[name][:, None]) for name in SPLITS[1:]}
        self._cuts |= probes(config, cut, self.user, self.position, self.rating)
        test = cut.targets["test"]
        known = np.bincount(self.user[trains], minlength=int(self.user.max()) + 1)
        for name, cold in (
            ("cold-user", known[self.user[test]] == 0),
            ("cold-item", self.train_counts[self.item[test]] == 0),
        ):
            self._cuts[name] = Probe(test[cold], test[cold][:, None])
        train = targets["train"]
        if config.target == "utility":
            train = train[self._train.rating[self._subsequent(train)[:, 0]] >= LIKED]
            train = last_of_each_user(train, self._train.user, config.max_train_examples_per_user)
            check_not_empty({**targets, "train": train}, config)
        self._train_rows = np.random.default_rng(config.seed).permutation(train)

    def rows(self, name: str) -> int:
        """Number of examples of a set."""
        return len(self._train_rows if name == "train" else self._cuts[name].cut)

    def shards(self, name: str, shuffle: bool = True) -> Iterator[pa.Table]:
        """The set's examples as tables of `SHARD_ROWS` rows, `schema.EXAMPLES`.

        Args:
            shuffle: training examples come in random order; false: by user and time. The other sets are never shuffled.
        """
        train = self._train_rows if shuffle else np.sort(self._train_rows)
        for first in range(0, self.rows(name), SHARD_ROWS):
            chosen = slice(first, first + SHARD_ROWS)
            if name == "train":
                cut = train[chosen]
                own = self._subsequent(cut)
                width = self.config.candidates.train_future + self.config.candidates.train_random
                yield self._build(self._train, first, cut, own, width)
            else:
                probe = self._cuts[name]
                width = self.config.candidates.eval_random + 1
                yield self._build(self._all, first, probe.cut[chosen], probe.own[chosen], width)

    def training_interactions(self) -> tuple[np.ndarray, np.ndarray]:
        """User and item of each interaction that training examples are cut from, sorted by user and time.

        Each user's up to its horizon, without cold users and items.
        """
        keep = self._trains()
        return self._train.user[keep], self._train.item[keep]

    def training_ratings(self) -> np.ndarray:
        """Rating of each of `training_interactions`, NaN where there is none."""
        return self._train.rating[self._trains()]

    def _subsequent(self, cut: np.ndarray) -> np.ndarray:
        """(n, train_future) rows of the training log from each of `cut` on, -1 past its end; the target first."""
        later = cut[:, None] + np.arange(self.config.candidates.train_future)
        own = np.where(later < self._train_horizon[cut][:, None], later, -1)
        own[:, 0] = cut
        if self.config.target == "utility":
            rows = np.arange(len(cut))
            best = most_useful(np.where(own >= 0, self._train.rating[own], np.nan))
            own[rows, best], own[:, 0] = own[:, 0], own[rows, best].copy()
        return own

    def _trains(self) -> np.ndarray:
        trains: np.ndarray = np.arange(len(self._train.user)) < self._train_horizon
        return trains

    def _withheld(self, code: np.ndarray, share: float, stream: int) -> np.ndarray:
        """(rows,) true where the row's user (or item) is withheld from training."""
        if share == 0:
            return np.zeros(len(code), dtype=bool)
        chosen = np.random.default_rng([self.config.seed, stream]).random(int(code.max()) + 1) < share
        withheld: np.ndarray = chosen[code]
        return withheld

    def _without_cold(
        self, targets: dict[str, np.ndarray], warm: np.ndarray, horizon: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Targets with warm users and items only; training sees a log in which the cold ones never were."""
        before = np.r_[0, np.cumsum(warm)]  # rows of the warm log before each row of the whole one
        user = self.user[warm]
        starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        place = np.arange(len(user)) - np.repeat(starts, np.diff(np.r_[starts, len(user)]))
        assert self.timestamp is not None
        self._train = _Columns(
            user,
            self.item[warm],
            self.position[warm],
            self.rating[warm],
            self.timestamp[warm],
            place,
            NeverInteracted(self.user, self.item, pool=self.item[warm]),
        )
        self._train_horizon = before[horizon[warm]]
        result = {name: rows[warm[rows]] for name, rows in targets.items()}
        train = before[result["train"]]
        result["train"] = train[place[train] >= self.config.min_history]
        return result

    def _build(self, log: _Columns, first: int, cut: np.ndarray, own: np.ndarray, width: int) -> pa.Table:
        """Examples with the history before rows `cut` and the candidates `own` (n, m; -1: none), the answer first."""
        user, position = log.user[cut], log.position[cut]
        key = keys(self.config.seed, user, position)
        # Candidates as rows of the interaction table, -1 for a random item; random ones fill the list up to `width`.
        row = np.concatenate([own, np.full((len(cut), width - own.shape[1]), -1)], axis=1)
        item = np.where(row >= 0, log.item[row], log.unseen.sample(key, user, width))
        order = np.argsort(draws(key, ORDER_COUNTER + np.arange(width)), axis=1)
        row, item = np.take_along_axis(row, order, axis=1), np.take_along_axis(item, order, axis=1)
        known = row >= 0
        days = (log.timestamp[row] - log.timestamp[cut - 1][:, None]) / DAY
        lengths = np.minimum(log.place[cut], self.config.max_history)
        starts = np.cumsum(lengths) - lengths
        history = np.repeat(cut - lengths - starts, lengths) + np.arange(int(lengths.sum()))
        return pa.table(
            {
                "example": np.arange(first, first + len(cut)),
                "user": user,
                "position": position,
                "timestamp": log.timestamp[cut],
                "history": _lists(log.item[history], lengths),
                "history_rating": _lists(log.rating[history], lengths),
                "candidates": _rectangle(item, pa.int32()),
                "target": np.argmin(order, axis=1).astype(np.int32),
                "rating": _rectangle(np.where(known, log.rating[row], np.nan), pa.float32()),
                "latency": _rectangle(np.where(known, row - cut[:, None] + 1, np.nan), pa.float32()),
                "latency_days": _rectangle(np.where(known, days, np.nan), pa.float32()),
            },
            schema=EXAMPLES,
        )


class PublishedExamples:
    """Examples that came ready-made, behind the face of `ExampleBuilder`.

    Where the publisher gave no candidates (lists of the target alone), random never-interacted items are drawn.
    """

    def __init__(self, log: PublishedLog, config: CutConfig) -> None:
        self.config, self.interactions = config, log.interactions
        self.user, self.item = log.interactions["user"].to_numpy(), log.interactions["item"].to_numpy()
        train = log.examples.get("train", EXAMPLES.empty_table())
        if train.num_rows == 0:
            raise UserError("the published data hold no training examples", where=log.name, hint="add the train file")
        self.unseen = NeverInteracted(self.user, self.item)
        self._examples = {name: self._with_candidates(table) for name, table in log.examples.items()}
        self.train_counts = np.bincount(self.item[self._trains()], minlength=log.items.num_rows)
        self._order = np.random.default_rng(config.seed).permutation(train.num_rows)

    def rows(self, name: str) -> int:
        """Number of examples of a set; 0 for one that was not published."""
        return self._examples[name].num_rows if name in self._examples else 0

    def shards(self, name: str, shuffle: bool = True) -> Iterator[pa.Table]:
        """The set's examples as tables of `SHARD_ROWS` rows, `schema.EXAMPLES`."""
        for first in range(0, self.rows(name), SHARD_ROWS):
            table = self._examples[name]
            if name == "train" and shuffle:
                part = table.take(pa.array(self._order[first : first + SHARD_ROWS]))
                yield part.set_column(0, EXAMPLES.field("example"), pa.array(np.arange(first, first + len(part))))
            else:
                yield table.slice(first, SHARD_ROWS)

    def training_interactions(self) -> tuple[np.ndarray, np.ndarray]:
        """User and item of each interaction of those who have training examples, sorted by user and time."""
        trains = self._trains()
        return self.user[trains], self.item[trains]

    def training_ratings(self) -> np.ndarray:
        """Rating of each of `training_interactions`, NaN where there is none."""
        return ratings(self.interactions)[self._trains()]

    def _trains(self) -> np.ndarray:
        trains: np.ndarray = np.isin(self.user, self._examples["train"]["user"].to_numpy())
        return trains

    def _with_candidates(self, table: pa.Table) -> pa.Table:
        lists = table["candidates"].combine_chunks()
        if len(lists.values) > len(lists):
            return table
        user, width = table["user"].to_numpy(), self.config.candidates.eval_random + 1
        self.unseen.check(width, self.config.candidates)
        key = keys(self.config.seed, user, table["position"].to_numpy())
        item = self.unseen.sample(key, user, width)
        item[:, 0] = lists.values
        order = np.argsort(draws(key, ORDER_COUNTER + np.arange(width)), axis=1)
        columns = {name: table[name] for name in EXAMPLES.names}
        columns["candidates"] = _rectangle(np.take_along_axis(item, order, axis=1), pa.int32())
        columns["target"] = pa.array(np.argmin(order, axis=1).astype(np.int32))
        for name in ("rating", "latency", "latency_days"):
            alone = table[name].combine_chunks().values.to_numpy()
            columns[name] = _rectangle(np.where(order == 0, alone[:, None], np.nan), pa.float32())
        return pa.table(columns, schema=EXAMPLES)


Examples = ExampleBuilder | PublishedExamples


def asks_for_liked(log: Log, config: CutConfig) -> bool:
    """Whether prompts ask for an item rated 4 or 5, not just for the next one."""
    return config.target == "recpo" and not isinstance(log, PublishedLog)


def examples_of(log: Log, config: CutConfig) -> Examples:
    """The examples of a log: cut by `config`, or as they were published."""
    return PublishedExamples(log, config) if isinstance(log, PublishedLog) else ExampleBuilder(log, config)


def _lists(flat: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), pa.array(flat))


def _rectangle(values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    flat = pa.array(values.reshape(-1).astype(kind.to_pandas_dtype()), kind)
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), flat)
