"""From a source's raw columns to the canonical tables of `schema`."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.candidates import mix
from raypref.data.schema import INTERACTIONS, ITEMS, REJECTED, USERS, FileAccount, Log
from raypref.data.title_text import normalized_column
from raypref.errors import UserError

TIES_SEED = 0
VALUES = ("rating", "count")


def canonical(
    name: str,
    domain: str,
    interactions: pa.Table,
    items: pa.Table,
    rejected: pa.Table | None = None,
    files: tuple[FileAccount, ...] = (),
) -> Log:
    """Encode, order and check a source's tables.

    Args:
        interactions: columns `user_id`, `item_id` (string, dictionary-encoded or not), `rating`, `count` (float or
            null), `timestamp` (int or null).
        items: columns `item_id`, `title` (string), `metadata` (string or null). Items without interactions are kept;
            of several lines on one item the first counts.
        rejected: lines that the reader refused, as `schema.REJECTED`.

    A user's interactions at one time are put in an order drawn from a hash of user and item: the order of a file, or of
    ids, would tell which of them is last, and so the target. Without times the file's order is kept. Titles that items
    share are made unique by their raw id.
    """
    if interactions.num_rows == 0:
        raise UserError(f"{name}: no usable interaction is left", where="data.source", hint="check the files' columns")
    items = _first_of_each(items).sort_by("item_id")
    item_ids = plain(items["item_id"])
    user, user_ids = _codes(interactions["user_id"])
    item, _ = _codes(interactions["item_id"], item_ids)
    order, position = _sequence(user, interactions["timestamp"])
    if interactions["timestamp"].null_count < interactions.num_rows:
        order = _ties_shuffled(order, user, item, interactions, user_ids, item_ids)
    columns = {
        "user": user[order],
        "item": item[order],
        "rating": interactions["rating"].cast(pa.float32()).combine_chunks().take(order),
        "count": interactions["count"].cast(pa.float32()).combine_chunks().take(order),
        "timestamp": interactions["timestamp"].cast(pa.int64()).combine_chunks().take(order),
        "position": position,
    }
    return Log(
        name=name,
        domain=domain,
        interactions=pa.table(columns, schema=INTERACTIONS),
        items=pa.table(
            {
                "item": np.arange(len(item_ids), dtype=np.int32),
                "item_id": item_ids,
                "title": unique_titles(plain(items["title"]), item_ids),
                "metadata": items["metadata"].cast(pa.string()),
            },
            schema=ITEMS,
        ),
        users=pa.table({"user": np.arange(len(user_ids), dtype=np.int32), "user_id": user_ids}, schema=USERS),
        rejected=REJECTED.empty_table() if rejected is None else rejected,
        files=files,
    )


def plain(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array of strings."""
    return column.cast(pa.string()).combine_chunks()


def encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The column as one dictionary array."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    return column.unify_dictionaries().combine_chunks()


def _codes(column: pa.ChunkedArray, ids: pa.Array | None = None) -> tuple[np.ndarray, pa.Array]:
    """int32 codes of a column of ids: places in `ids`, by default the sorted distinct ones of the column."""
    coded = encoded(column)
    present = np.asarray(coded.indices)
    if ids is None:
        used = np.bincount(present, minlength=len(coded.dictionary)) > 0
        ids = coded.dictionary.filter(pa.array(used))
        ids = ids.take(pc.array_sort_indices(ids))
    places = np.asarray(pc.index_in(coded.dictionary, value_set=ids).fill_null(-1), dtype=np.int32)
    return places[present], ids


def _sequence(user: np.ndarray, timestamp: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The order by (user, time), equal ones as in the file, and each row's position in it within its user."""
    times = np.asarray(timestamp.cast(pa.int64()).fill_null(0))
    first, last = int(times.min()), int(times.max())
    if (int(user.max()) + 1) * (last - first + 1) < 1 << 62:  # one key sorts twice as fast as two
        order = np.argsort(user.astype(np.int64) * (last - first + 1) + (times - first), kind="stable")
    else:
        order = np.lexsort((times, user))
    ordered = user[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(user)])
    return order, np.arange(len(user), dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)


def _ties_shuffled(
    order: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    interactions: pa.Table,
    user_ids: pa.Array,
    item_ids: pa.Array,
) -> np.ndarray:
    """`order` with each run of equal users and times put in the order of a hash that no file's order can move."""
    times = np.asarray(interactions["timestamp"].cast(pa.int64()).fill_null(0))[order]
    same = (user[order][1:] == user[order][:-1]) & (times[1:] == times[:-1])
    if not same.any():
        return order
    run = np.cumsum(np.r_[True, ~same])
    tied = np.flatnonzero(np.r_[False, same] | np.r_[same, False])
    rows = order[tied]
    draw = mix(_hashes(user_ids, user[rows]) ^ mix(_hashes(item_ids, item[rows])))
    rating, count = (np.nan_to_num(np.asarray(interactions[c].cast(pa.float32()).fill_null(0))[rows]) for c in VALUES)
    result = order.copy()
    result[tied] = rows[np.lexsort((count, rating, draw, run[tied]))]
    return result


def _hashes(ids: pa.Array, codes: np.ndarray) -> np.ndarray:
    """uint64 hash of each code's raw id."""
    used, place = np.unique(codes, return_inverse=True)
    hashed = [
        int.from_bytes(hashlib.blake2b(f"{TIES_SEED} {raw}".encode(), digest_size=8).digest(), "little")
        for raw in ids.take(pa.array(used)).to_pylist()
    ]
    return np.array(hashed, dtype=np.uint64)[place]


def _first_of_each(items: pa.Table) -> pa.Table:
    codes = np.asarray(encoded(items["item_id"]).indices)
    _, first = np.unique(codes, return_index=True)
    return items if len(first) == len(codes) else items.take(pa.array(np.sort(first)))


def unique_titles(titles: pa.Array, item_ids: pa.Array) -> pa.Array:
    """Titles in the form of `title_text.normalized`; where several items share one, the raw id in brackets tells them
    apart, or the item's code where ids are alike in that form too.
    """
    titles, ids = normalized_column(titles), normalized_column(item_ids)
    if pc.count_distinct(ids).as_py() < len(ids):
        ids = pa.array([str(code) for code in range(len(ids))])
    while True:
        counts = pc.value_counts(titles)
        shared = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(shared) == 0:
            return titles
        told_apart = pc.binary_join_element_wise(titles, pc.binary_join_element_wise("[", ids, "]", ""), " ")
        titles = pc.if_else(pc.is_in(titles, value_set=shared), told_apart, titles)
