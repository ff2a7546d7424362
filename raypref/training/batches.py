"""From stored example tables to the batches that a training step works on.

The order of examples is a function of (seed, epoch) alone: every worker reads the same stream and takes its own slice
of each global batch, so 1, 2 or 4 workers see the same global batches and a resumed run goes on at the exact example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from torch import Tensor

from raypref.data.columns import matrix
from raypref.errors import UserError
from raypref.models.layout import APART, Rows, TitleBatch, ahead, document_length, title_batch
from raypref.objectives.batch import PreferenceBatch
from raypref.objectives.negatives import DRAWN as LOTS
from raypref.training.negatives import DRAWN, NegativeChoice, lots, order, spare

WINDOW_ROWS = 65_536
VALIDATION_EPOCH = 1_000_003  # the "epoch" whose negatives validation uses, the same at every step

ReadTables = Callable[[], Iterable[pa.Table]]


def global_batches(
    read: ReadTables, size: int, seed: int, first_step: int, steps_per_epoch: int
) -> Iterator[tuple[int, pa.Table]]:
    """Endless (epoch, table of `size` rows) from step `first_step` on.

    Stored order is already random; each epoch shuffles it again within windows of 65,536 rows, which is all of a small
    data set. Rows past the last whole batch wait for an epoch that shuffles them forward.
    """
    epoch, skip = divmod(first_step, steps_per_epoch)
    while True:
        for table in _shuffled(read(), size, seed, epoch, skip, steps_per_epoch):
            yield epoch, table
        epoch, skip = epoch + 1, 0


def worker_share(batch: pa.Table, rank: int, world: int) -> pa.Table:
    """Worker `rank`'s slice of a global batch; all workers' slices, in order of rank, are the batch.

    They differ by one row at most, where the batch does not divide.
    """
    first, end = (batch.num_rows * i // world for i in (rank, rank + 1))
    return batch.slice(first, end - first)


def _shuffled(
    tables: Iterable[pa.Table], size: int, seed: int, epoch: int, skip: int, batches: int
) -> Iterator[pa.Table]:
    rng = np.random.default_rng([seed, epoch])
    number = 0
    rest: pa.Table | None = None
    for window in _windows(tables):
        pool = window.take(rng.permutation(window.num_rows))
        pool = pool if rest is None else pa.concat_tables([rest, pool])
        whole = pool.num_rows // size
        for i in range(whole):
            if skip <= number < batches:
                yield pool.slice(i * size, size)
            number += 1
        rest = pool.slice(whole * size)


def _windows(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    pool: list[pa.Table] = []
    rows = 0
    for table in tables:
        pool.append(table)
        rows += table.num_rows
        if rows >= WINDOW_ROWS:
            yield pa.concat_tables(pool)
            pool, rows = [], 0
    if pool:
        yield pa.concat_tables(pool)


@dataclass(frozen=True)
class TargetBatch:
    """What supervised fine-tuning sees: preferred titles alone."""

    policy_logps_pos: Tensor
    """(B,) log-prob of the preferred title, nats."""
    tokens_pos: Tensor
    """(B,) its scored tokens, end token included."""


@dataclass
class Batch:
    """A micro-batch on its device: token tables, and the example table's columns for the titles in it."""

    titles: TitleBatch
    columns: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        return Batch(self.titles.to(device), {k: ahead(v, device) for k, v in self.columns.items()})

    def seen(self, logps: Tensor) -> PreferenceBatch | TargetBatch:
        """What the objective sees, given this batch's title log-probs (B, 1 + K)."""
        lengths = self.titles.lengths
        if logps.shape[1] == 1:
            return TargetBatch(logps[:, 0], lengths[:, 0])
        return PreferenceBatch(
            policy_logps_pos=logps[:, 0],
            policy_logps_neg=logps[:, 1:],
            tokens_pos=lengths[:, 0],
            tokens_neg=lengths[:, 1:],
            ref_logps_pos=self.columns.get("ref_logps_pos"),
            ref_logps_neg=self.columns.get("ref_logps_neg"),
            columns=self.columns,
        )


# Columns of the example table with one value per candidate, and the name an objective knows each by.
CANDIDATE_COLUMNS = {
    "ref_logps": "ref_logps",
    "rating": "rating",
    "latency": "latency",
    "latency_days": "latency_days",
    "expert_scores": "expert_score",
    "expert_confidences": "expert_confidence",
}
EXAMPLE_COLUMNS = ("sequence_embedding",)


class Collator:
    """Makes a micro-batch of table rows: the target's title, then K negatives of the prompt's candidates.

    Where the policy chooses the K, all candidates but the target stand in their place, with a random number of each.
    """

    def __init__(
        self, negatives: int, seed: int, pad_id: int, rows: Rows = APART, choice: NegativeChoice = DRAWN
    ) -> None:
        self.negatives, self.seed, self.pad_id, self.rows, self.choice = negatives, seed, pad_id, rows, choice
        self.progress = 0.0
        """Share of the training's steps that are done: what is shown may depend on it."""

    def __call__(self, table: pa.Table, epoch: int) -> Batch:
        chosen = self.choose(table, epoch)
        titles = [[ids[c] for c in row] for ids, row in zip(table["title_ids"].to_pylist(), chosen)]
        columns: dict[str, Tensor] = {}
        for stored, name in CANDIDATE_COLUMNS.items():
            if stored in table.column_names:
                values = matrix(table[stored])
                picked = np.take_along_axis(values, chosen, axis=1)
                columns[f"{name}_pos"] = torch.from_numpy(picked[:, 0].copy())
                columns[f"{name}_neg"] = torch.from_numpy(picked[:, 1:].copy())
                if stored == "expert_scores":
                    rest = np.arange(values.shape[1]) != table["target"].to_numpy()[:, None]
                    columns["expert_score_all_neg"] = torch.from_numpy(values[rest].reshape(len(values), -1))
        for name in EXAMPLE_COLUMNS:
            if name in table.column_names:
                columns[name] = torch.from_numpy(matrix(table[name]))
        if self.choice.by_policy:
            numbers = lots(table, self.seed, epoch) / 2.0**63 * (1 - 2**-24) + spare(self.choice, table)
            columns[LOTS] = torch.from_numpy(np.take_along_axis(numbers, chosen, axis=1)[:, 1:].copy())
        return Batch(title_batch(table["prompt_ids"].to_pylist(), titles, self.pad_id, self.rows), columns)

    def lengths(self, table: pa.Table, epoch: int) -> np.ndarray:
        """(B,) tokens that each row's prompt takes with its chosen titles."""
        prompts = pa.compute.list_value_length(table["prompt_ids"]).to_pylist()
        titles = [[len(ids) for ids in row] for row in table["title_ids"].to_pylist()]
        chosen = self.choose(table, epoch)
        return np.array([document_length(n, [t[c] for c in row]) for n, t, row in zip(prompts, titles, chosen)])

    def choose(self, table: pa.Table, epoch: int) -> np.ndarray:
        """(B, 1 + K) indices into each row's candidates: the target, then negatives by (seed, epoch, example).

        Where the policy chooses, all other candidates: (B, C).
        """
        target = table["target"].to_numpy()
        candidates = len(table["title_ids"][0])
        if self.negatives >= candidates:  # else the target itself would be drawn
            raise UserError(
                f"{self.negatives} negatives are wanted, but an example has {candidates - 1} candidates beside its "
                "target",
                where="align.negatives",
                hint="take fewer negatives, or draw more candidates (data.candidates)",
            )
        ordered = order(self.choice, table, lots(table, self.seed, epoch))
        negatives = ordered if self.choice.by_policy else ordered[:, : self.negatives]
        return np.concatenate([target[:, None], negatives], axis=1)


def concatenated(batches: Sequence[PreferenceBatch], order: Tensor) -> PreferenceBatch:
    """Micro-batches as one batch; `order` (B,): which of their rows, one after the other, comes where."""

    def joined(tensors: list[Tensor | None]) -> Tensor | None:
        return None if tensors[0] is None else torch.cat([t for t in tensors if t is not None])[order]

    whole = {
        f.name: joined([getattr(b, f.name) for b in batches]) for f in fields(PreferenceBatch) if f.name != "columns"
    }
    columns = {name: torch.cat([b.columns[name] for b in batches])[order] for name in batches[0].columns}
    return PreferenceBatch(**whole, columns=columns)  # type: ignore[arg-type]
