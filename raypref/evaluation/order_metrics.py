"""Metrics over several orders of the same candidates, one value a user: does the answer follow the item or its place?

They read `rank`, `logps`, `target` of the example's own order and `order_places`, `order_logps` of the others
(`raypref.evaluation.orders`). A tie at the top is an answer that is not right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from raypref.evaluation.ranking import rank_of_target

FIFTHS = 5


def all_orders(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, N, C) places and log-probs of each candidate in each order, the example's own first, and (n,) the target."""
    own = np.array(rows["logps"].to_pylist(), dtype=float)
    places = np.array(rows["order_places"].to_pylist(), dtype=int)
    logps = np.array(rows["order_logps"].to_pylist(), dtype=float)
    first = np.broadcast_to(np.arange(own.shape[1]), own.shape)[:, None]
    return np.concatenate((first, places), 1), np.concatenate((own[:, None], logps), 1), rows["target"].to_numpy()


def hits(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(n, N) whether each order ranks the target first, and its place there, 0 the first."""
    places, logps, target = all_orders(rows)
    count, orders, width = logps.shape
    ranks = rank_of_target(logps.reshape(-1, width), np.repeat(target, orders)).reshape(count, orders)
    return (ranks == 1).astype(float), np.take_along_axis(places, target[:, None, None], 2)[:, :, 0]


def averaged_hit(rows: pa.Table) -> np.ndarray:
    """(n,) 1 where the mean of the orders' log-probs ranks the target first: all orders as one system."""
    _, logps, target = all_orders(rows)
    return (rank_of_target(logps.mean(axis=1), target) == 1).astype(float)


def place_gap(rows: pa.Table) -> np.ndarray:
    """(n,) HR@1 where the target stands in the list's first half, less where it stands in the second.

    The same user and target in both, so that nothing but the place differs. Positive: what comes first is preferred.
    Edge case: a target that no order puts into one of the halves: NaN.
    """
    hit, place = hits(rows)
    width = len(rows["candidates"][0])
    return _mean(hit, place < width / 2) - _mean(hit, place >= width / 2)


def hit_in_fifth(rows: pa.Table, fifth: int) -> np.ndarray:
    """(n,) HR@1 over the orders that put the target into the list's fifth 1, 2, ... 5; NaN where none does."""
    hit, place = hits(rows)
    return _mean(hit, place * FIFTHS // len(rows["candidates"][0]) == fifth - 1)


def follows_item(rows: pa.Table) -> np.ndarray:
    """(n,) of the pairs of orders, the share that choose the same item: preference, or memory of it."""
    return _pairs(rows)[0]


def follows_place(rows: pa.Table) -> np.ndarray:
    """(n,) of the pairs of orders, the share that choose the same place and so another item: position."""
    return _pairs(rows)[1]


def _pairs(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    places, logps, _ = all_orders(rows)
    item = logps.argmax(axis=2)
    place = np.take_along_axis(places, item[:, :, None], 2)[:, :, 0]
    one, two = np.triu_indices(item.shape[1], 1)
    same_item = item[:, one] == item[:, two]
    same_place = (place[:, one] == place[:, two]) & ~same_item
    return same_item.mean(axis=1), same_place.mean(axis=1)


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(n,) mean over the columns chosen in each row; NaN where none is."""
    counts = where.sum(axis=1)
    return np.where(counts > 0, (values * where).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _in_fifth(fifth: int) -> Callable[[pa.Table], np.ndarray]:
    return lambda rows: hit_in_fifth(rows, fifth)


ORDERED: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "orders_hr@1": averaged_hit,
    "place_gap": place_gap,
    **{f"place_{k}_hr@1": _in_fifth(k) for k in range(1, FIFTHS + 1)},
    "follows_item": follows_item,
    "follows_place": follows_place,
}
