"""Every item of the catalog ranked for a user, instead of a sampled list: the columns that this adds to rows.

Sampled lists are known to change which system is best (Krichene & Rendle 2020), so both are kept side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:  # torch, which those who only read rows can do without
    from raypref.recommenders.recommender import Recommender

TOP = 20
STRATA = ("head", "middle", "tail")
CATALOG_ROWS = pa.schema(
    [
        pa.field("catalog_items", pa.int32()),  # items that there are, seen ones included
        pa.field("catalog_rank", pa.int32()),  # of the target among all that are ranked, ties against it
        pa.field("top", pa.list_(pa.int32())),  # the first items, as many as TOP
        pa.field("top_information", pa.list_(pa.float32())),  # self-information of each, bits
        pa.field("top_genres", pa.list_(pa.list_(pa.int16()))),  # of each its genres by number; null: none are known
        pa.field("history_genres", pa.list_(pa.list_(pa.int16()))),  # likewise of each item of the history
        pa.field("target_stratum", pa.int8()),  # the target's fame: index into STRATA
    ]
)
SAID_ROWS = pa.schema(
    [
        pa.field("said_item", pa.int32()),  # named by constrained greedy generation
        pa.field("said_inside", pa.float32()),  # log of the probability inside the set along its title (`Said.inside`)
        pa.field("said_beams", pa.list_(pa.int32())),  # items of constrained beams, the likeliest first; null: no beams
    ]
)


@dataclass(frozen=True)
class Catalog:
    """All items, and what is known of them from training data."""

    items: np.ndarray
    """(M,) codes of the items that are ranked, ascending."""
    counts: np.ndarray
    """(codes,) training interactions of each code."""
    users: int
    """How many users training data have."""
    seen: Sequence[np.ndarray] | None = None
    """Of each user code the items of its training interactions, to be left out with those of its history; None: nothing
    is left out."""
    genres: Sequence[Sequence[int]] | None = None
    """Of each code its genres by number; None where the data set has none."""

    def information(self) -> np.ndarray:
        """(codes,) self-information of each item in bits, `log2(users / users who met it in training)` (Zhou et al.
        2010). An item that none met counts as met by one.
        """
        bits: np.ndarray = np.log2(max(self.users, 1) / np.maximum(self.counts, 1))
        return bits

    def strata(self) -> np.ndarray:
        """(codes,) the fame of each item: 0 of those with which, the most popular first, the first third of all
        training interactions is reached, 1 of those with the second, 2 of the rest. Ties are parted by code.

        After Abdollahpouri et al. 2019, who part items where a share of the interactions is reached likewise.
        """
        order = self.items[np.argsort(-self.counts[self.items], kind="stable")]
        before = np.cumsum(self.counts[order]) - self.counts[order]  # of items more popular
        total = max(int(self.counts[order].sum()), 1)
        found = np.full(len(self.counts), len(STRATA) - 1)
        found[order] = np.minimum(before * len(STRATA) // total, len(STRATA) - 1)
        return found

    def left_out(self, user: int, history: Sequence[int], target: int) -> np.ndarray:
        """(M,) bool of the items that are not ranked for a user; the target always is."""
        if self.seen is None:
            return np.zeros(len(self.items), dtype=bool)
        known = np.union1d(self.seen[user] if user < len(self.seen) else np.zeros(0, np.int64), history)
        return np.isin(self.items, known[known != target])

    def columns(self, part: pa.Table, scores: np.ndarray) -> dict[str, list[Any]]:
        """`CATALOG_ROWS` of examples (columns of prepare), from scores (B, M) of all items; NaN is the least."""
        found: dict[str, list[Any]] = {name: [] for name in CATALOG_ROWS.names}
        information, strata = self.information(), self.strata()
        rows = zip(*(part[name].to_pylist() for name in ("user", "history", "candidates", "target")), scores)
        for user, history, candidates, target, own in rows:
            item = candidates[target]
            out = self.left_out(user, history, item)
            ranked, values = self.items[~out], own[~out]
            mine = values[np.searchsorted(ranked, item)]
            top = ranked[np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:TOP]]
            genres = self.genres
            row = {
                "catalog_items": len(self.items),
                "catalog_rank": int((~(values < mine)).sum()),  # counts the target itself, once
                "top": top.tolist(),
                "top_information": information[top].tolist(),
                "top_genres": None if genres is None else [genres[i] for i in top],
                "history_genres": None if genres is None else [genres[i] for i in history],
                "target_stratum": int(strata[item]),
            }
            for name, value in row.items():
                found[name].append(value)
        return found


def all_scores(recommender: Recommender, catalog: Catalog, part: pa.Table, histories: list[np.ndarray]) -> np.ndarray:
    """(B, M) scores of all items by a recommender.

    Each list begins elsewhere, as scores drawn at random follow from the list alone.
    """
    shifts = part["example"].to_numpy() % len(catalog.items)
    places = (np.arange(len(catalog.items)) + shifts[:, None]) % len(catalog.items)
    shifted = recommender.score(histories, catalog.items[places]).float().cpu().numpy()
    scores = np.empty_like(shifted)
    np.put_along_axis(scores, places, shifted, axis=1)
    return scores
