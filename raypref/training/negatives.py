"""Which of a prompt's candidates are negatives, as far as the example table alone decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypref.data.candidates import draws, keys
from raypref.data.columns import matrix
from raypref.objectives.negatives import WAYS

DECAY, SCORE, LATENCY = 0.5, 3.0, 11.0
"""RecPO's published data code: utility `rating / latency^0.5`, and what a random candidate counts as."""


@dataclass(frozen=True)
class NegativeChoice:
    """Where negatives come from and what decides among them (`align.negatives_from`, `align.negatives_by`)."""

    source: str = "all"
    by: str = "draw"
    share: float = 1.0

    @property
    def by_policy(self) -> bool:
        """Whether all candidates are scored, for the policy to choose among."""
        return self.by in WAYS

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the example table that it reads."""
        return ("rating", "latency") if self.source != "all" or self.by == "utility" else ()


DRAWN = NegativeChoice()


def lots(table: pa.Table, seed: int, epoch: int) -> np.ndarray:
    """(B, C) uint64 below 2^63: a random number of each candidate by (seed, epoch, example)."""
    example = table["example"].to_numpy()
    candidates = len(table["title_ids"][0])
    drawn: np.ndarray = draws(keys(seed, example, np.full_like(example, epoch)), np.arange(candidates))
    return drawn >> np.uint64(1)


def order(choice: NegativeChoice, table: pa.Table, drawn: np.ndarray) -> np.ndarray:
    """(B, C - 1) candidates but the target, those to be taken first at the left.

    By lot; `by: utility` the least useful first; what `source` leaves out comes last, by lot too, so that it is taken
    only where there are too few others.
    """
    target = table["target"].to_numpy()
    is_target = np.arange(drawn.shape[1]) == target[:, None]
    useful = utilities(table) if choice.by == "utility" else np.zeros(drawn.shape)
    left_out = spare(choice, table)
    ordered: np.ndarray = np.lexsort((drawn, np.where(left_out, 0, useful), left_out, is_target), axis=1)
    return ordered[:, :-1]


def spare(choice: NegativeChoice, table: pa.Table) -> np.ndarray:
    """(B, C) true for candidates that are taken for want of others only.

    random: the user's own later items. rated: all but the user's own later items of less utility than the target's.
    """
    if choice.source == "all":
        return np.zeros((table.num_rows, len(table["title_ids"][0])), dtype=bool)
    own = ~np.isnan(matrix(table["latency"]))
    if choice.source == "random":
        return own
    useful = utilities(table)
    targets = np.take_along_axis(useful, table["target"].to_numpy()[:, None], axis=1)
    unrated = np.isnan(matrix(table["rating"]))
    wrong: np.ndarray = ~own | unrated | (useful >= targets)
    return wrong


def utilities(table: pa.Table) -> np.ndarray:
    """(B, C) `rating / latency^0.5` of each candidate; a random one counts as rated 3, 11 steps ahead."""
    rating, latency = matrix(table["rating"]).astype(float), matrix(table["latency"]).astype(float)
    useful: np.ndarray = np.nan_to_num(rating, nan=SCORE) / np.nan_to_num(latency, nan=LATENCY) ** DECAY
    return useful
