"""The list that the model chooses from: the target, later items of the user, random never-interacted ones.

Every draw is a hash of (seed, user, position) and a counter, so it depends on neither the order of the work nor the
target. Seeding by the target, as the published S-DPO data did, lets a target be told from its place in the list.
"""

from __future__ import annotations

import numpy as np

from raypref.config.data import CandidateConfig
from raypref.data.hints import options
from raypref.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SPARE_DRAWS = 8
BITS_PER_PAIR = 8  # of the bitmap, at least; with two hashes, one wrong guess in twenty goes on to the search
FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd, of irrational numbers


def mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer (Steele et al., 2014): uint64 to well-spread uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def keys(seed: int, user: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(n,) uint64 random keys of examples, a function of (seed, user, position) alone."""
    with np.errstate(over="ignore"):
        base = mix(np.array(seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64) + _GOLDEN)
        return mix(mix(base ^ (user.astype(np.uint64) + _GOLDEN)) ^ position.astype(np.uint64))


def draws(key: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """(n, len(counters)) uint64 random numbers of each key."""
    with np.errstate(over="ignore"):
        return mix(key[:, None] + _GOLDEN * (counters.astype(np.uint64) + np.uint64(1)))


def _fewer(config: CandidateConfig, left: int) -> str:
    """The options with which lists are no longer than the `left` items that every user leaves."""
    if left < 2:
        return "take more items: some user has met all"
    future = min(config.train_future, (left + 1) // 2)
    smaller = {
        "train_future": future,
        "train_random": min(config.train_random, left - future),
        "eval_random": min(config.eval_random, left - 1),
    }
    return f"shorter lists: {options({}, {'candidates': smaller})}"


class NeverInteracted:
    """Samples items that a user never interacted with, without repeats within a row."""

    def __init__(self, user: np.ndarray, item: np.ndarray, pool: np.ndarray | None = None) -> None:
        """`user`, `item`: the whole log's columns; `pool`: the items to sample from, by default all in it."""
        self.items = np.unique(item) if pool is None else np.unique(pool)
        self._width = int(item.max()) + 1
        self._seen = np.sort(user.astype(np.int64) * self._width + item)
        self._counts = np.bincount(user)
        # A search among millions of pairs costs many cache misses: a bitmap of hashes answers most questions first.
        self._bits = max(3, int(np.ceil(np.log2(max(len(self._seen), 1) * BITS_PER_PAIR))))
        flags = np.zeros(1 << self._bits, dtype=bool)
        for factor in FACTORS:
            flags[self._hash(self._seen, factor)] = True
        self._filter = np.packbits(flags, bitorder="little")

    def check(self, wanted: int, config: CandidateConfig) -> None:
        """Refuse a catalog in which some user leaves fewer than `wanted` items."""
        left = len(self.items) - int(self._counts.max())
        if left < wanted:
            raise UserError(
                f"the most active user leaves only {left} of {len(self.items)} items to sample from; "
                f"{wanted} are needed",
                where="data.candidates",
                hint=_fewer(config, left),
            )

    def sample(self, key: np.ndarray, user: np.ndarray, wanted: int) -> np.ndarray:
        """(n, wanted) items for `user` (n,) by the random keys `key` (n,)."""
        chosen = np.empty((len(key), wanted), dtype=np.int32)
        todo = np.arange(len(key))
        width = wanted + SPARE_DRAWS
        while len(todo):
            # A row that found too few starts over with twice the draws: the first ones are the same, so are its items.
            random = draws(key[todo], np.arange(width))
            item = self.items[((random >> np.uint64(32)) * np.uint64(len(self.items))) >> np.uint64(32)]
            good = ~self._is_seen(user[todo], item) & _first_of_row(item)
            good &= np.cumsum(good, axis=1, dtype=np.int32) <= wanted
            enough = good.sum(axis=1) == wanted
            chosen[todo[enough]] = item[enough][good[enough]].reshape(-1, wanted)
            todo = todo[~enough]
            width *= 2
        return chosen

    def _hash(self, code: np.ndarray, factor: np.uint64) -> np.ndarray:
        with np.errstate(over="ignore"):
            place: np.ndarray = (code.astype(np.uint64) * factor) >> np.uint64(64 - self._bits)
        return place

    def _is_flagged(self, code: np.ndarray, factor: np.uint64) -> np.ndarray:
        place = self._hash(code, factor)
        byte = self._filter[place >> np.uint64(3)]
        flagged: np.ndarray = ((byte >> (place & np.uint64(7)).astype(np.uint8)) & 1).astype(bool)
        return flagged

    def _is_seen(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        code = user.astype(np.int64)[:, None] * self._width + item
        seen = self._is_flagged(code, FACTORS[0])
        for factor in FACTORS[1:]:
            seen[seen] = self._is_flagged(code[seen], factor)
        maybe = code[seen]
        at = np.searchsorted(self._seen, maybe)
        seen[seen] = self._seen[np.minimum(at, len(self._seen) - 1)] == maybe
        return seen


def _first_of_row(item: np.ndarray) -> np.ndarray:
    """True where a value has not stood further left in its row."""
    first = np.ones(item.shape, dtype=bool)
    ordered = np.sort(item, axis=1)
    repeating = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    order = np.argsort(item[repeating], axis=1, kind="stable")
    ordered = np.take_along_axis(item[repeating], order, axis=1)
    new = np.ones(ordered.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    restored = np.empty_like(new)
    np.put_along_axis(restored, order, new, axis=1)
    first[repeating] = restored
    return first
