"""The example table as columns in several places: each stage adds its own, shard by shard, row for row.

A split is a folder of shards `part-00000.parquet`, `part-00001.parquet` ...; shard i of every column folder holds the
same examples in the same order, so reading is a horizontal join that is checked and never computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.errors import UserError


def shard_path(folder: Path, split: str, index: int) -> Path:
    return folder / split / f"part-{index:05d}.parquet"


def write_shard(table: pa.Table, folder: Path, split: str, index: int) -> None:
    path = shard_path(folder, split, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def splits_in(folder: Path, wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that the folder holds; a published data set may lack one."""
    return [split for split in wanted if shard_path(folder, split, 0).is_file()]


class ExampleTable:
    """A split of the example table, its columns spread over `folders`."""

    def __init__(self, folders: Sequence[Path], split: str, columns: Sequence[str] | None = None) -> None:
        """`columns`: only these are read (and `example`); None reads all."""
        self.folders, self.split = tuple(Path(f) for f in folders), split
        self.columns = None if columns is None else {"example", *columns}
        self.shards = len(list((self.folders[0] / split).glob("part-*.parquet")))
        if self.shards == 0:
            raise UserError(
                f"no examples of split '{split}'", where=str(self.folders[0]), hint="prepare the data again"
            )

    def read(self, shard: int) -> pa.Table:
        """One shard with the columns of all folders."""
        joined: pa.Table | None = None
        for folder in self.folders:
            path = shard_path(folder, self.split, shard)
            part = self._read_file(path)
            if joined is None:
                joined = part
                continue
            if not part["example"].equals(joined["example"]):
                raise UserError("shards hold different examples", where=str(path), hint="delete that stage's folder")
            for name in part.column_names:
                if name not in joined.column_names:
                    joined = joined.append_column(name, part[name])
        assert joined is not None
        return joined

    def _read_file(self, path: Path) -> pa.Table:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                names = file.schema_arrow.names
                return file.read(names if self.columns is None else [n for n in names if n in self.columns])
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(
                f"a shard can't be read: {error}", where=str(path), hint="delete that stage's folder"
            ) from error

    def __iter__(self) -> Iterator[pa.Table]:
        """The shards in stored order."""
        return (self.read(i) for i in range(self.shards))

    @property
    def bytes(self) -> int:
        """What its shards take on the disk, with columns that are not read."""
        parts = (part for folder in self.folders for part in (folder / self.split).glob("part-*.parquet"))
        return sum(part.stat().st_size for part in parts)

    @property
    def rows(self) -> int:
        """Number of examples, from the shards' footers."""
        paths = (shard_path(self.folders[0], self.split, i) for i in range(self.shards))
        return sum(pq.read_metadata(p).num_rows for p in paths)


def head(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The first `rows` rows of a sequence of tables, all for None."""
    for table in tables:
        if rows is None:
            yield table
            continue
        if rows <= 0:
            return
        yield table.slice(0, rows)
        rows -= table.num_rows


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """(B, C) float32 of a list column whose rows have one length."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    found: np.ndarray = flat.reshape(len(column), -1)
    return found
