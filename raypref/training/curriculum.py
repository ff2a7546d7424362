"""LLaRA's curriculum: prompts of texts alone at first, with behavioural tokens ever oftener."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raypref.data.candidates import draws, keys
from raypref.models.layout import APART, Rows
from raypref.training.batches import VALIDATION_EPOCH, Batch, Collator


class CurriculumCollator(Collator):
    """Leaves the behavioural tokens out of an example's prompt with a probability that falls from 1 to 0.

    At step t of T a prompt has them with probability t / T (Liao et al. 2024, eq. 8, the linear schedule). Whether one
    does is drawn from (seed, epoch, example) alone. Validation prompts always have them, as those of the evaluation.
    """

    def __init__(self, negatives: int, seed: int, pad_id: int, rows: Rows = APART, first: int = 0) -> None:
        """`first`: the token of item 0."""
        super().__init__(negatives, seed, pad_id, rows)
        self.first = first

    def __call__(self, table: pa.Table, epoch: int) -> Batch:
        return super().__call__(self.shown(table, epoch), epoch)

    def lengths(self, table: pa.Table, epoch: int) -> np.ndarray:
        return super().lengths(self.shown(table, epoch), epoch)

    def shown(self, table: pa.Table, epoch: int) -> pa.Table:
        """The table with the prompts that are in turn now."""
        if epoch == VALIDATION_EPOCH:
            return table
        example = table["example"].to_numpy()
        drawn = draws(keys(self.seed + 1, example, np.full_like(example, epoch)), np.arange(1))[:, 0] / 2.0**64
        hybrid = drawn < self.progress
        prompts = [
            ids if keep else [token for token in ids if token < self.first]
            for ids, keep in zip(table["prompt_ids"].to_pylist(), hybrid)
        ]
        place = table.column_names.index("prompt_ids")
        return table.set_column(place, "prompt_ids", pa.array(prompts, table.schema.field("prompt_ids").type))
