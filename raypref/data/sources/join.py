"""A file of interactions and the files that name its items, joined to a log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.canonical import canonical, encoded, plain
from raypref.data.schema import REJECTED, Log
from raypref.data.sources.files import rejected_table, tolerate
from raypref.data.sources.rows import FileTable


def log_of_files(name: str, domain: str, limit: float, interactions: FileTable, *items: FileTable) -> Log:
    """The log of one file of interactions and any number of files of items.

    An interaction whose item has no title is a broken line like any other: counted, and too many of them are an error.
    """
    titles = pa.concat_tables([table.table for table in items])
    table, refused = _titled(interactions, titles)
    rejected = pa.concat_tables([interactions.rejected, refused])
    if refused.num_rows:
        tolerate(rejected, interactions.account.lines, limit, interactions.file)
    accepted = interactions.account.accepted - refused.num_rows
    account = replace(interactions.account, accepted=accepted, rejected=rejected.num_rows)
    rejected = pa.concat_tables([rejected, *(item.rejected for item in items)])
    accounts = (account, *(item.account for item in items if item.file != interactions.file))
    return canonical(name, domain, table, titles, rejected, accounts)


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
