"""What a Ray Data task that reads a shard runs; imports nothing heavy, as a process is started for it in each trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from raypref.data.columns import ExampleTable


class ReadShard:
    """From shard numbers to the shards of a training table, its columns spread over `folders`."""

    def __init__(self, folders: list[Path], columns: list[str]) -> None:
        self.folders, self.columns = folders, columns

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        table = ExampleTable(self.folders, "train", self.columns)
        for shard in batch["id"].to_pylist():
            yield table.read(shard)
