"""A file of interactions and the files that name its items, joined to a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.canonical import canonical, encoded, plain
from raypref.data.schema import REJECTED, Log
from raypref.data.sources.files import rejected_table, tolerate
from raypref.data.sources.rows import FileTable


def log_of_files(
    name: str, domain: str, limit: float, interactions: FileTable | Sequence[FileTable], *items: FileTable
) -> Log:
    """The log of a file of interactions (or of the parts of one) and any number of files of items.

    An interaction whose item has no title is a broken line like any other: counted, and too many of them are an error.
    """
    titles = pa.concat_tables([table.table for table in items])
    parts = [interactions] if isinstance(interactions, FileTable) else interactions
    tables, rejected, accounts = [], [], []
    for part in parts:
        table, refused = _titled(part, titles)
        tables.append(table)
        rejected.append(pa.concat_tables([part.rejected, refused]))
        if refused.num_rows:
            tolerate(rejected[-1], part.account.lines, limit, part.file)
        accepted = part.account.accepted - refused.num_rows
        accounts.append(replace(part.account, accepted=accepted, rejected=rejected[-1].num_rows))
    table = pa.concat_tables(tables).unify_dictionaries()
    own = {part.file for part in parts}
    accounts += [item.account for item in items if item.file not in own]
    rejected += [item.rejected for item in items]
    return canonical(name, domain, table, titles, pa.concat_tables(rejected), tuple(accounts))


def _titled(interactions: FileTable, items: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The interactions whose item is among `items`, and the others as rejected lines."""
    table = interactions.table
    item = encoded(table["item_id"])
    if len(item) == 0:
        return table, REJECTED.empty_table()
    known = np.asarray(pc.is_in(item.dictionary, value_set=plain(items["item_id"])))[np.asarray(item.indices)]
    if known.all():
        return table, REJECTED.empty_table()
    lost = table.filter(pa.array(~known))
    text = pc.binary_join_element_wise(lost["user_id"].cast(pa.string()), lost["item_id"].cast(pa.string()), " ")
    reasons = ["item has no title"] * lost.num_rows
    refused = rejected_table(interactions.file, lost["line"].to_pylist(), reasons, text.to_pylist())
    return table.filter(pa.array(known)), refused
