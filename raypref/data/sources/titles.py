"""Titles of files that have no separate table of items: the first one that an item bears counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from raypref.data.schema import REJECTED, FileAccount
from raypref.data.sources.rows import ITEM_ROWS, FileTable, Rows

MERGE_AT = 2_000_000  # titles held before repeated ones are let go


class TitleBook:
    """Gathers the items and titles of accepted rows, in memory that follows the items and not the rows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._tables = [pa.table({"item_id": pa.array([], pa.string()), "title": pa.array([], pa.string())})]
        self._held = 0

    def add(self, rows: Rows, item: pa.Array, title: pa.Array) -> None:
        keep = pa.array(rows.good)
        columns = {"item_id": item.filter(keep).cast(pa.string()), "title": title.filter(keep).cast(pa.string())}
        self._tables.append(_firsts(pa.table(columns)))
        self._held += self._tables[-1].num_rows
        if self._held > MERGE_AT:
            self._tables = [_firsts(pa.concat_tables(self._tables))]
            self._held = 0

    def finish(self) -> FileTable:
        """The items as a file that has no lines of its own."""
        table = _firsts(pa.concat_tables(self._tables))
        n = table.num_rows
        columns = [table["item_id"], table["title"], pa.nulls(n, pa.string()), np.zeros(n, dtype=np.int32)]
        items = pa.table(columns, schema=ITEM_ROWS)
        return FileTable(self.file, items, REJECTED.empty_table(), FileAccount(self.file.name, 0, 0, 0))


def _firsts(table: pa.Table) -> pa.Table:
    if table.num_rows == 0:
        return table
    codes = np.asarray(table["item_id"].combine_chunks().dictionary_encode().indices)
    return table.take(pa.array(np.sort(np.unique(codes, return_index=True)[1])))
