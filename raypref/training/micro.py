"""How a worker's share of a global batch goes through the model: in parts, so that memory is that of one part.

The gradient is that of the undivided batch however it is cut, so cutting is a matter of time and memory alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from raypref.training.batches import Collator
from raypref.training.sums import all_most

if TYPE_CHECKING:
    from raypref.training.engine import Engine


@dataclass(frozen=True)
class MicroBatches:
    """Parts of so many examples; or, with `tokens`, of as many examples of like length as fit into so many tokens."""

    examples: int
    tokens: int | None = None

    def __call__(self, table: pa.Table, epoch: int, collator: Collator, engine: Engine) -> list[np.ndarray]:
        """Row numbers of each part; equally many parts on all workers (collective where lengths count).

        ZeRO 2 and 3 communicate in every pass through the model, so a worker that runs one more would wait for ever.
        """
        if self.tokens is None:
            rows = np.arange(table.num_rows)
            return [rows[i : i + self.examples] for i in range(0, len(rows), self.examples)]
        lengths = collator.lengths(table, epoch)
        count = len(by_tokens(lengths, self.tokens, collator.rows.packed))
        if engine.world > 1:
            most = int(all_most(torch.tensor(count, device=engine.device)))
            count = min(most, table.num_rows)  # fewer where shares differ, which ZeRO 2 and 3 do not allow
        return by_tokens(lengths, self.tokens, collator.rows.packed, count)


def by_tokens(lengths: np.ndarray, budget: int, packed: bool, parts: int = 1) -> list[np.ndarray]:
    """Cut examples of `lengths` (B,) into at least `parts` parts, none empty, that fit the budget.

    Packed, a part takes the sum of its lengths, and the parts are made about equally large. Else each example takes as
    much as the longest of its part, and those of like length come together. An example that is longer than the budget
    is a part by itself.
    """
    order = np.argsort(-lengths, kind="stable")
    if packed:
        budget = max(budget, int(lengths.max()))
        count = max(parts, -(-int(lengths.sum()) // budget))
        while True:
            found = _levelled(lengths, order, count)
            if count == len(lengths) or max(lengths[part].sum() for part in found) <= budget:
                return found
            count += 1
    found, first = [], 0
    for i in range(1, len(order) + 1):
        if i == len(order) or lengths[order[first]] * (i + 1 - first) > budget:
            found.append(order[first:i])
            first = i
    while len(found) < parts:
        largest = max(range(len(found)), key=lambda i: len(found[i]))
        found[largest : largest + 1] = np.array_split(found[largest], 2)
    return found


def _levelled(lengths: np.ndarray, order: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` parts of about equal sums: each example, the longest first, joins the part that is least full."""
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = np.zeros(count, dtype=np.int64)
    for i in order:
        least = int(sums.argmin())
        parts[least].append(int(i))
        sums[least] += lengths[i]
    return [np.array(part) for part in parts]
