"""A training worker's reader of its training table, which it keeps for the next trial in its process if it is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import ray.train

KEPT_BYTES = 64 << 20
_kept: dict[str | None, list[pa.Table]] = {}  # the training table that this process read last, if it was small


def stream(table: str | None = None) -> Callable[[], Iterator[pa.Table]]:
    """This worker's reader of the training table; each call starts an epoch.

    `table`: what tells it from others. One of at most `KEPT_BYTES` is then kept, for the next epoch and for the next
    trial in this process: to start a stream takes Ray seconds, however little flows.
    """

    def read() -> Iterator[pa.Table]:
        yield from _kept[table] if table in _kept else _streamed(table)

    return read


def _streamed(table: str | None) -> Iterator[pa.Table]:
    """By Ray Data; kept when it came to its end, if it is small and has a name."""
    kept: list[pa.Table] = []
    size = 0
    dataset = ray.train.get_dataset_shard("train")
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        size += batch.nbytes
        if table is not None and size <= KEPT_BYTES:
            kept.append(_copy(batch))
        yield batch
    if table is not None and size <= KEPT_BYTES:
        _kept.clear()
        _kept[table] = kept


def _copy(table: pa.Table) -> pa.Table:
    """In memory of its own: what Ray gives lies in its object store, and would stay there."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
