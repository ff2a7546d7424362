"""What a guesser gets who never reads a title: leaks show as more than chance.

The guessers learn from training examples alone. Two of them know only places in the list, so on honest data they are at
chance: the place that targets stand at most often, and, per item, the place that it stood at most often when it was the
target. The published S-DPO data fail the second, as their lists were shuffled with a seed made from the target. The
others (how often an item was a target; the length of its title; fame and place together) may rightly be above chance,
as random items are seldom popular; they tell how far an item's fame alone goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Z = 2.5758  # intervals of 99 %: an audit of honest data should not cry wolf
LEAKS = ("position", "remembered position")


@dataclass(frozen=True)
class Guess:
    """How often a guesser was right. Where it wavers between n candidates, it is right by 1/n."""

    name: str
    share: float
    low: float
    high: float
    chance: float
    examples: int

    @property
    def leaks(self) -> bool:
        """True where only a leak explains the share."""
        return self.name in LEAKS and self.low > self.chance


@dataclass(frozen=True)
class _Lists:
    """A shard's candidate lists, flat."""

    item: np.ndarray
    place: np.ndarray
    starts: np.ndarray
    target: np.ndarray
    """Flat index of each list's target."""

    @classmethod
    def of(cls, examples: pa.Table) -> _Lists:
        lists = examples["candidates"].combine_chunks()
        lengths = np.asarray(pc.list_value_length(lists))
        starts = np.cumsum(lengths) - lengths
        item = np.asarray(pc.list_flatten(lists))
        place = np.arange(len(item)) - np.repeat(starts, lengths)
        return cls(item, place, starts, starts + examples["target"].to_numpy())


class Guessers:
    """Learns from training examples, then guesses on others."""

    def __init__(self, titles: pa.ChunkedArray | pa.Array) -> None:
        """`titles`: of the items, in the order of their codes."""
        self._length = np.asarray(pc.utf8_length(titles)).astype(np.float64)
        self._at = np.zeros((len(self._length), 1), dtype=np.int32)  # [item, place]: how often it was the target there
        self._longer = 0.0

    def learn(self, examples: pa.Table) -> None:
        lists = _Lists.of(examples)
        widest = int(lists.place.max(initial=0)) + 1
        if widest > self._at.shape[1]:
            self._at = np.pad(self._at, ((0, 0), (0, widest - self._at.shape[1])))
        np.add.at(self._at, (lists.item[lists.target], lists.place[lists.target]), 1)
        self._longer += self._length[lists.item[lists.target]].sum()
        self._longer -= (np.add.reduceat(self._length[lists.item], lists.starts) / _widths(lists)).sum()

    def guess(self, examples: pa.Table) -> dict[str, np.ndarray]:
        """By guesser: (n,) how right it is on each example."""
        lists = _Lists.of(examples)
        known = lists.place < self._at.shape[1]
        times = np.where(known, self._at[lists.item, np.where(known, lists.place, 0)], 0)
        as_target = self._at.sum(axis=1)
        by_place = np.pad(self._at.sum(axis=0), (0, max(0, int(lists.place.max(initial=0)) + 1 - self._at.shape[1])))
        score = {
            "position": by_place[lists.place],
            "remembered position": (lists.place == self._remembered(as_target)[lists.item]).astype(np.int8),
            "popularity": as_target[lists.item],
            "title length": self._length[lists.item] * np.sign(self._longer),
            "remembered position and popularity": times,
        }
        return {name: _rightness(values, lists) for name, values in score.items()}

    def _remembered(self, as_target: np.ndarray) -> np.ndarray:
        """(items,) the place that each item stood at most often as a target, any for one that never was.

        Every item has just one, so that neither fame nor rarity tells anything: on honest data this is exactly chance.
        """
        any_place = np.arange(len(as_target)) % self._at.shape[1]
        return np.where(as_target > 0, self._at.argmax(axis=1), any_place)


def _widths(lists: _Lists) -> np.ndarray:
    return np.diff(np.r_[lists.starts, len(lists.item)])


def _rightness(score: np.ndarray, lists: _Lists) -> np.ndarray:
    best = np.maximum.reduceat(score, lists.starts)
    tied = np.add.reduceat((score == np.repeat(best, _widths(lists))).astype(np.int64), lists.starts)
    return np.where(score[lists.target] == best, 1 / tied, 0.0)


def audit(train: Iterable[pa.Table], held_out: Iterable[pa.Table], titles: pa.ChunkedArray | pa.Array) -> list[Guess]:
    """What each guesser gets on `held_out` after learning from `train` (both `schema.EXAMPLES`); intervals of 99 %."""
    guessers = Guessers(titles)
    for table in train:
        if table.num_rows:
            guessers.learn(table)
    right: dict[str, list[np.ndarray]] = {}
    chances = [np.zeros(0)]
    for table in held_out:
        if table.num_rows == 0:
            continue
        chances.append(1 / _widths(_Lists.of(table)))
        for name, values in guessers.guess(table).items():
            right.setdefault(name, []).append(values)
    chance = float(np.concatenate(chances).mean()) if right else float("nan")
    return [_summed(name, np.concatenate(values), chance) for name, values in right.items()]


def _summed(name: str, right: np.ndarray, chance: float) -> Guess:
    n, share = len(right), float(right.mean())
    low, high = wilson(share, n)
    return Guess(name, share, low, high, chance, n)


def wilson(share: float, n: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share among `n` (Wilson, 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(middle - half), float(middle + half)


def leak_warning(guesses: list[Guess], name: str) -> str | None:
    """One line on the worst leak, or None."""
    leaks = [g for g in guesses if g.leaks]
    if not leaks:
        return None
    worst = max(leaks, key=lambda g: g.share)
    return (
        f"{name} leaks its targets: choosing by {worst.name} alone is right in {worst.share:.1%} "
        f"({worst.low:.1%} to {worst.high:.1%}) of {worst.examples:,} held-out examples; chance is {worst.chance:.1%}. "
        "Scores on these data measure the leak too."
    )
