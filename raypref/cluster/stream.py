"""A training worker's reader of a training table that Ray Data streams to it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import ray.train


def stream() -> Iterator[pa.Table]:
    """The training table from its beginning: an epoch."""
    dataset = ray.train.get_dataset_shard("train")
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
