"""How large a data set is and how its ratings and sequences are spread, beside what the papers say."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa

from raypref.data.schema import Log


@dataclass(frozen=True)
class Published:
    """A row of a paper's table of data sets."""

    paper: str
    sequences: int
    items: int
    interactions: int


# RecPO table 3, S-DPO table 3, NAPO table 4; by the data sets' names in the catalog. EAPO gives no table.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "ml-100k": (Published("S-DPO", 943, 1_682, 100_000),),
    "ml-1m": (Published("RecPO", 6_040, 3_952, 994_169),),
    "amazon-2018-books": (Published("RecPO", 5_103, 38_203, 62_290),),
    "steam": (Published("RecPO", 3_171, 4_251, 82_072), Published("NAPO", 11_938, 3_581, 274_726)),
    "beeradvocate": (Published("RecPO", 4_724, 6_105, 91_207),),
    "lastfm-1k": (Published("RecPO", 982, 107_296, 307_829),),
    "goodreads": (Published("S-DPO, NAPO", 6_031, 4_500, 220_100),),
    "lastfm-sdpo": (Published("S-DPO, NAPO", 1_220, 4_606, 73_510),),
}


@dataclass(frozen=True)
class Statistics:
    """The size and shape of a log."""

    users: int
    items: int
    """Items with at least one interaction."""
    catalog: int
    """Items with a title, met or not."""
    interactions: int
    mean_length: float
    density: float
    """Share of the user-item pairs that are interactions."""
    first: str
    """Day of the first interaction; empty where there are no times."""
    last: str


def statistics(interactions: pa.Table, catalog: int) -> Statistics:
    """Of a table of `schema.INTERACTIONS`, and the number of items in the catalog."""
    user, item = interactions["user"].to_numpy(), interactions["item"].to_numpy()
    users, items = (int((np.bincount(column) > 0).sum()) for column in (user, item))
    times = interactions["timestamp"].drop_null()
    first, last = (_day(int(t)) for t in (np.min(times), np.max(times))) if len(times) else ("", "")
    n = interactions.num_rows
    return Statistics(users, items, catalog, n, n / users, n / (users * items), first, last)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def rating_histogram(log: Log) -> list[tuple[str, int]]:
    """Ratings and how often each was given; what has no rating comes last."""
    column = log.interactions["rating"]
    values, counts = np.unique(column.drop_null().to_numpy(), return_counts=True)
    rows = [(f"{value:g}", int(count)) for value, count in zip(values, counts)]
    return rows + ([("none", column.null_count)] if column.null_count else [])


def length_histogram(interactions: pa.Table, bins: int = 10) -> list[tuple[str, int]]:
    """Lengths of the users' sequences in bins of equal ratio, and how many users are in each."""
    lengths = np.bincount(interactions["user"].to_numpy())
    lengths = lengths[lengths > 0]
    edges = np.unique(np.geomspace(lengths.min(), lengths.max() + 1, bins + 1).round().astype(int))
    edges[-1] = lengths.max() + 1
    counts, _ = np.histogram(lengths, edges)
    names = [f"{low}" if low == high - 1 else f"{low} to {high - 1}" for low, high in itertools.pairwise(edges)]
    return list(zip(names, counts.tolist()))
