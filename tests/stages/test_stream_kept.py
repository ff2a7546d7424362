"""A worker that has read a small training table keeps it; a large one streams anew each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
import ray.train

from raypref.cluster import stream as module

TABLES = [pa.table({"example": [0, 1], "history": [[1], [2, 3]]}), pa.table({"example": [2], "history": [[]]})]


class Shard:
    """What Ray gives a worker; counts how often it is read."""

    def __init__(self) -> None:
        self.started = 0

    def iter_batches(self, **options: object) -> Iterator[pa.Table]:
        self.started += 1
        yield from TABLES


@pytest.fixture
def shard(monkeypatch: pytest.MonkeyPatch) -> Shard:
    shard = Shard()
    monkeypatch.setattr(ray.train, "get_dataset_shard", lambda name: shard)
    monkeypatch.setattr(module, "_kept", {})
    return shard


def rows(read: module.Callable[[], Iterator[pa.Table]]) -> list[dict[str, object]]:
    return [row for table in read() for row in table.to_pylist()]


def test_a_small_table_is_read_once_also_by_the_next_trial(shard: Shard) -> None:
    whole = [row for table in TABLES for row in table.to_pylist()]
    read = module.stream("a")
    assert rows(read) == rows(read) == rows(module.stream("a")) == whole
    assert shard.started == 1
    assert rows(module.stream("b")) == whole  # another table
    assert shard.started == 2
    assert rows(module.stream("a")) == whole  # one is kept, not all
    assert shard.started == 3


def test_a_table_that_was_not_read_to_its_end_is_not_kept(shard: Shard) -> None:
    next(iter(module.stream("a")()))
    assert len(rows(module.stream("a"))) == 3
    assert shard.started == 2


def test_a_large_table_streams_every_time(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", TABLES[0].nbytes)
    assert rows(module.stream("a")) == rows(module.stream("a"))
    assert shard.started == 2


def test_a_table_without_a_name_streams_every_time(shard: Shard) -> None:
    assert rows(module.stream()) == rows(module.stream())
    assert shard.started == 2
