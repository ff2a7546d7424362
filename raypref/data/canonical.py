"""From a source's raw columns to the canonical tables of `schema`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.schema import INTERACTIONS, ITEMS, REJECTED, USERS, Log
from raypref.errors import UserError


def canonical(
    name: str,
    domain: str,
    interactions: pa.Table,
    items: pa.Table,
    rejected: pa.Table | None = None,
) -> Log:
    """Encode, order and check a source's tables.

    Args:
        interactions: columns `user_id`, `item_id` (string), `rating`, `count` (float or null), `timestamp` (int or null).
        items: columns `item_id`, `title` (string), `metadata` (string or null). Items without interactions are kept.
        rejected: lines that the reader refused, as `schema.REJECTED`.

    Ties in time keep the order of the file. Titles that two items share are made unique by their raw id.
    """
    rejected = REJECTED.empty_table() if rejected is None else rejected
    titled = pc.is_in(interactions["item_id"], value_set=items["item_id"].combine_chunks())
    if not pc.all(titled).as_py():
        untitled = interactions.filter(pc.invert(titled))
        rejected = pa.concat_tables([rejected, _untitled(untitled)])
        interactions = interactions.filter(titled)
    if interactions.num_rows == 0:
        raise UserError(f"{name}: no usable interaction is left", where="data.source", mend="check the files' columns")

    items = items.sort_by("item_id")
    item_ids = items["item_id"].combine_chunks()
    user_ids = pc.unique(interactions["user_id"]).sort()
    user = np.asarray(pc.index_in(interactions["user_id"], user_ids), dtype=np.int32)
    item = np.asarray(pc.index_in(interactions["item_id"], item_ids), dtype=np.int32)
    times = interactions["timestamp"].cast(pa.int64())
    order = np.lexsort((times.fill_null(0).to_numpy(), user))  # stable: ties keep the file's order
    user = user[order]
    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    position = np.arange(len(user), dtype=np.int32) - np.repeat(starts, np.diff(np.r_[starts, len(user)])).astype(np.int32)
    columns = {
        "user": user,
        "item": item[order],
        "rating": interactions["rating"].cast(pa.float32()).take(order),
        "count": interactions["count"].cast(pa.float32()).take(order),
        "timestamp": times.take(order),
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
                "title": _unique_titles(items["title"], item_ids),
                "metadata": items["metadata"].cast(pa.string()),
            },
            schema=ITEMS,
        ),
        users=pa.table({"user": np.arange(len(user_ids), dtype=np.int32), "user_id": user_ids}, schema=USERS),
        rejected=rejected,
    )


def _untitled(interactions: pa.Table) -> pa.Table:
    n = interactions.num_rows
    text = pc.binary_join_element_wise(interactions["user_id"], interactions["item_id"], "\t")
    return pa.table(
        {
            "file": pa.nulls(n, pa.string()),
            "line": np.zeros(n, dtype=np.int64),
            "reason": pa.array(["item has no title"] * n, pa.string()),
            "text": text,
        },
        schema=REJECTED,
    )


def _unique_titles(titles: pa.ChunkedArray, item_ids: pa.Array) -> pa.Array:
    """Titles on one line each; where several items share one, the raw id in brackets tells them apart."""
    titles = pc.utf8_trim_whitespace(pc.replace_substring_regex(titles.combine_chunks(), r"\s+", " "))
    counts = pc.value_counts(titles)
    shared = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    told_apart = pc.binary_join_element_wise(titles, pc.binary_join_element_wise("[", item_ids, "]", ""), " ")
    return pc.if_else(pc.is_in(titles, value_set=shared), told_apart, titles)
