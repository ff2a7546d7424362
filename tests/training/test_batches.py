"""Global batches and negatives: functions of seed, epoch and example, of nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings

from raypref.errors import UserError
from raypref.models.layout import all_candidates
from raypref.training import batches
from raypref.training.batches import Collator, global_batches, worker_share
from tests.support.training_runs import CANDIDATES, PAD, make_table

ROWS, SIZE = 50, 8
PER_EPOCH = ROWS // SIZE


def numbers(rows: int = ROWS) -> pa.Table:
    return pa.table({"example": np.arange(rows)})


def shards(table: pa.Table, size: int = 7) -> Iterable[pa.Table]:
    return [table.slice(i, size) for i in range(0, table.num_rows, size)]


def stream(count: int, first: int = 0, seed: int = 0, shard: int = 7, rows: int = ROWS) -> list[tuple[int, list[int]]]:
    """(epoch, examples) of `count` global batches from step `first`."""
    found = global_batches(lambda: shards(numbers(rows), shard), SIZE, seed, first, rows // SIZE)
    return [(epoch, table["example"].to_pylist()) for epoch, table in (next(found) for _ in range(count))]


def test_an_epoch_shows_each_example_once_at_most() -> None:
    for epoch in range(3):
        shown = [e for n, batch in stream(3 * PER_EPOCH) if n == epoch for e in batch]
        assert len(shown) == PER_EPOCH * SIZE
        assert len(set(shown)) == len(shown)
    assert len({e for _, batch in stream(12 * PER_EPOCH) for e in batch}) == ROWS  # the rest comes forward in time


def test_the_order_changes_with_epoch_and_seed_only() -> None:
    first = stream(2 * PER_EPOCH)
    assert first == stream(2 * PER_EPOCH)
    assert first == stream(2 * PER_EPOCH, shard=50) == stream(2 * PER_EPOCH, shard=1)
    assert [batch for _, batch in first[:PER_EPOCH]] != [batch for _, batch in first[PER_EPOCH:]]
    assert first != stream(2 * PER_EPOCH, seed=1)
    assert first[0][1] != sorted(first[0][1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4 * PER_EPOCH), st.integers(0, 3))
def test_a_resumed_stream_goes_on_at_the_exact_example(first: int, seed: int) -> None:
    assert stream(5, first, seed) == stream(first + 5, 0, seed)[first:]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_share_the_same_global_batches(workers: int) -> None:
    """Each worker slices what it reads by itself, as the loop does; shares are as equal as they can be."""
    for _, batch in stream(9):
        parts = [worker_share(pa.table({"example": batch}), rank, workers) for rank in range(workers)]
        assert {part.num_rows for part in parts} <= {SIZE // workers, -(-SIZE // workers)}
        assert pa.concat_tables(parts)["example"].to_pylist() == batch


def test_a_table_of_many_windows_is_shuffled_within_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "WINDOW_ROWS", 20)
    rows = 90
    found = stream(2 * (rows // SIZE), rows=rows, shard=5)
    first = [e for epoch, batch in found if epoch == 0 for e in batch]
    assert len(first) == rows // SIZE * SIZE == len(set(first))
    assert set(first[:20]) == set(range(20))
    assert first[:20] != list(range(20))
    assert stream(6, 9, rows=rows, shard=5) == stream(15, rows=rows, shard=5)[9:]


TABLE = make_table(40)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, CANDIDATES - 1))
def test_negatives_are_candidates_but_never_the_target(seed: int, epoch: int, negatives: int) -> None:
    chosen = Collator(negatives, seed, PAD).choose(TABLE, epoch)
    target = TABLE["target"].to_numpy()
    assert chosen.shape == (40, 1 + negatives)
    assert (chosen[:, 0] == target).all()
    assert (chosen[:, 1:] != target[:, None]).all()
    assert all(len(set(row)) == 1 + negatives for row in chosen.tolist())
    assert chosen.min() >= 0
    assert chosen.max() < CANDIDATES


def test_negatives_depend_on_seed_epoch_and_example_alone() -> None:
    collator = Collator(3, 0, PAD)
    chosen = collator.choose(TABLE, 0)
    assert (chosen == Collator(3, 0, PAD).choose(TABLE, 0)).all()
    assert (chosen[10:20] == collator.choose(TABLE.slice(10, 10), 0)).all()  # whoever stands beside it
    assert (chosen[::-1] == collator.choose(TABLE.take(np.arange(40)[::-1]), 0)).all()
    assert (chosen != collator.choose(TABLE, 1)).any()
    assert (chosen != Collator(3, 1, PAD).choose(TABLE, 0)).any()


def test_every_candidate_is_drawn_equally_often() -> None:
    """Over 500 epochs each of the 5 others is drawn 3/5 of the time; 4.5 standard deviations are allowed."""
    collator = Collator(3, 0, PAD)
    drawn = np.zeros((40, CANDIDATES))
    for epoch in range(500):
        np.add.at(drawn, (np.arange(40)[:, None], collator.choose(TABLE, epoch)[:, 1:]), 1)
    others = np.arange(CANDIDATES) != TABLE["target"].to_numpy()[:, None]
    assert np.abs(drawn[others] / 500 - 0.6).max() < 4.5 * np.sqrt(0.6 * 0.4 / 500)


def test_more_negatives_than_candidates_are_refused() -> None:
    with pytest.raises(UserError, match="6 negatives are wanted, but an example has 5 candidates beside its target"):
        Collator(CANDIDATES, 0, PAD).choose(TABLE, 0)


def test_columns_follow_their_titles() -> None:
    collator = Collator(3, 0, PAD)
    part = TABLE.slice(8, 4)
    batch, chosen = collator(part, 5), collator.choose(part, 5)
    rows = part.to_pylist()
    for i, (row, places) in enumerate(zip(rows, chosen.tolist())):
        assert batch.titles.lengths[i].tolist() == [len(row["title_ids"][c]) for c in places]
        for stored, name in (("ref_logps", "ref_logps"), ("expert_scores", "expert_score"), ("latency", "latency")):
            expected = torch.tensor([row[stored][c] for c in places])
            found = torch.cat([batch.columns[f"{name}_pos"][i : i + 1], batch.columns[f"{name}_neg"][i]])
            torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
        rest = [score for c, score in enumerate(row["expert_scores"]) if c != row["target"]]
        assert batch.columns["expert_score_all_neg"][i].tolist() == rest
        assert batch.columns["sequence_embedding"][i].tolist() == row["sequence_embedding"]
    scored = list(zip(batch.titles.title.tolist(), batch.titles.label.tolist()))
    for i, (row, places) in enumerate(zip(rows, chosen.tolist())):
        for k, c in enumerate(places):
            assert [label for title, label in scored if title == i * 4 + k] == row["title_ids"][c]


def test_all_candidates_keep_the_order_of_the_prompt() -> None:
    batch = all_candidates(TABLE.slice(3, 2), PAD)
    expected = [[len(ids) for ids in row] for row in TABLE.slice(3, 2)["title_ids"].to_pylist()]
    assert batch.lengths.tolist() == expected
