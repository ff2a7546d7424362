"""Which interactions count: first meetings, k-core filtering, and ratings for implicit feedback."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raypref.data.hints import options
from raypref.data.schema import INTERACTIONS
from raypref.errors import UserError


def first_meetings(interactions: pa.Table) -> pa.Table:
    """The log with only the first interaction of each user and item.

    A later one would put a known item among the candidates, or a held-out target into a training history.
    """
    user, item = interactions["user"].to_numpy(), interactions["item"].to_numpy()
    pair = user.astype(np.int64) * (int(item.max(initial=0)) + 1) + item
    ordered = np.sort(pair)
    if not (ordered[1:] == ordered[:-1]).any():
        return interactions
    order = np.argsort(pair, kind="stable")  # rows of one user are in time order, so the first of each run is earliest
    ordered = pair[order]
    keep = np.sort(order[np.r_[True, ordered[1:] != ordered[:-1]]])
    return _renumbered(interactions.take(pa.array(keep)))


def k_core(interactions: pa.Table, k: int) -> pa.Table:
    """The largest part of the log in which every user and item has at least `k` interactions.

    Repeats until nothing more falls away (He and McAuley, 2016), then numbers positions anew.
    """
    user, item = interactions["user"].to_numpy(), interactions["item"].to_numpy()
    keep = np.ones(len(user), dtype=bool)
    while True:
        enough = (np.bincount(user[keep], minlength=user.max(initial=0) + 1) >= k)[user]
        enough &= (np.bincount(item[keep], minlength=item.max(initial=0) + 1) >= k)[item]
        if (enough & keep).sum() == keep.sum():
            break
        keep &= enough
    if not keep.any():
        raise UserError(
            f"no user and item with at least {k} interactions is left",
            where=f"data.k_core = {k}",
            hint=f"filter less: {options({}, {'k_core': max(k // 2, 1)})}",
        )
    return _renumbered(interactions.filter(pa.array(keep)) if not keep.all() else interactions)


def _renumbered(interactions: pa.Table) -> pa.Table:
    starts, lengths = user_ranges(interactions["user"].to_numpy())
    position = np.arange(interactions.num_rows, dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    place = interactions.schema.get_field_index("position")
    return interactions.set_column(place, INTERACTIONS.field("position"), pa.array(position))


def user_ranges(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row and number of rows of each user in a column sorted by user."""
    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    return starts, np.diff(np.r_[starts, len(user)])


def ratings(interactions: pa.Table) -> np.ndarray:
    """Ratings 1..5 of each interaction, float32; NaN where feedback has neither rating nor count.

    A count becomes the percentile of the user among that item's users, in fifths: the top 20 % is 5 (RecPO E.1). Equal
    counts share the better place.
    """
    rating: np.ndarray = interactions["rating"].to_numpy(zero_copy_only=False).astype(np.float32)
    count = interactions["count"].to_numpy(zero_copy_only=False).astype(np.float32)
    implicit = np.isnan(rating) & ~np.isnan(count)
    if not implicit.any():
        return rating
    item, value = interactions["item"].to_numpy()[implicit], count[implicit]
    order = np.lexsort((value, item))
    starts, lengths = user_ranges(item[order])
    group = np.repeat(np.arange(len(starts)), lengths)
    sorted_value = value[order]
    new_value = np.r_[True, (sorted_value[1:] != sorted_value[:-1]) | (group[1:] != group[:-1])]
    run = np.cumsum(new_value) - 1
    run_end = np.r_[np.flatnonzero(new_value)[1:], len(order)]
    at_most = run_end[run] - starts[group]  # users of the item with a count no greater than this one's
    fifths = np.ceil(5 * at_most / lengths[group])
    result = np.empty(len(order), dtype=np.float32)
    result[order] = fifths
    rating[implicit] = result
    return rating
