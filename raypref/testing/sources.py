"""The contract of a data source: what splits, candidates and prompts rely on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.schema import EXAMPLES, INTERACTIONS, ITEMS, REJECTED, USERS, Log, PublishedLog
from raypref.data.sources import SOURCES
from raypref.data.sources.rows import RATINGS
from raypref.data.title_text import normalized
from raypref.testing.contract import require

TABLES = {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS, "rejected": REJECTED}


def check_source(source: Any, read: Callable[[Any], Log] | None = None) -> Log:
    """Check what a data source gives, by reading it twice.

    Canonical tables; dense codes of users and items, whose raw ids are unique; unique titles without blanks around
    them; interactions sorted by user and position, positions from 0 without a gap, times that never fall; ratings of
    0.5 to 5; for each file accepted + rejected = lines, and a row in `rejected` for each refused line; the same log
    each time, as stages are addressed by their inputs.

    Args:
        source: The source's config, of raypref's classes or your own.
        read: Its reader; none: the one of its `kind` in `raypref.data.sources.SOURCES`.

    Returns:
        The log, for checks of what it must hold.

    Raises:
        ContractError: it breaks a promise; the message names each.
    """
    reader = read or SOURCES[source.kind]
    log = reader(source)
    schemas = list(_schemas(log))
    checks = (_codes, _titles, _order, _values, _accounts, _examples)
    name = getattr(reader, "__name__", type(reader).__name__)
    require(name, schemas or (fault for check in checks for fault in check(log)))
    require(name, _same_again(log, reader(source)))
    return log


def _schemas(log: Log) -> Iterator[str]:
    if not isinstance(log, Log):
        yield f"it gives a {type(log).__name__}, not a raypref.data.schema.Log"
        return
    tables = {name: (getattr(log, name), schema) for name, schema in TABLES.items()}
    if isinstance(log, PublishedLog):
        tables |= {f"examples['{split}']": (table, EXAMPLES) for split, table in log.examples.items()}
    for name, (table, schema) in tables.items():
        if table.schema != schema:
            wrong = [field.name for field in schema if field not in list(table.schema)]
            more = [column for column in table.column_names if column not in schema.names]
            yield f"{name} has not the canonical schema; missing or of another type: {wrong}, too many: {more}"
        for field in schema:
            if not field.nullable and field.name in table.column_names and table[field.name].null_count:
                yield f"{name}['{field.name}'] has {table[field.name].null_count} nulls"


def _codes(log: Log) -> Iterator[str]:
    if log.interactions.num_rows == 0:
        yield "there are no interactions"
    for kind, table in (("user", log.users), ("item", log.items)):
        codes = table[kind].to_numpy()
        if not np.array_equal(codes, np.arange(len(codes))):
            yield f"the codes of {kind}s are not 0, 1, 2 ... in the order of the {kind}s' table"
        if repeated := _repeated(table[f"{kind}_id"]):
            yield f"raw ids of {kind}s stand more than once: {repeated}"
        used = log.interactions[kind].to_numpy()
        if used.size and (used.min() < 0 or used.max() >= len(codes)):
            yield f"interactions name the {kind} {used.max()}, and there are {len(codes)}"


def _titles(log: Log) -> Iterator[str]:
    titles = log.items["title"]
    if repeated := _repeated(titles):
        yield f"titles stand more than once: {repeated}; an answer names one item (`canonical` numbers them)"
    trimmed = pc.utf8_trim_whitespace(titles)
    if pc.any(pc.or_(pc.not_equal(trimmed, titles), pc.equal(pc.binary_length(trimmed), 0))).as_py():
        yield "titles are empty or have blanks around them"
    if pc.any(pc.match_substring_regex(titles, r"[\r\n]")).as_py():
        yield "titles have line breaks: an answer ends with its line"
    if others := [title for title in titles.to_pylist() if normalized(title) != title]:
        yield f"titles are not in the form of raypref.data.title_text.normalized: {others[:3]}"
    for text in log.items["metadata"].drop_null().to_pylist():
        try:
            json.loads(text)
        except ValueError:
            yield f"metadata is no JSON: {text[:60]!r}"
            return


def _order(log: Log) -> Iterator[str]:
    user, position = (log.interactions[name].to_numpy() for name in ("user", "position"))
    if (np.diff(user) < 0).any():
        yield "interactions are not sorted by user"
        return
    starts = np.flatnonzero(np.r_[True, np.diff(user) > 0]) if user.size else np.array([], dtype=int)
    lengths = np.diff(np.r_[starts, user.size])
    if not np.array_equal(position, np.arange(user.size) - np.repeat(starts, lengths)):
        yield "a user's positions are not 0, 1, 2 ... in the order of the rows"
    times = log.interactions["timestamp"]
    if log.has_times:
        if times.null_count:
            yield f"{times.null_count} interactions lack the time that others have"
        elif (np.diff(times.to_numpy())[np.diff(user) == 0] < 0).any():
            yield "a user's later positions have earlier times"


def _values(log: Log) -> Iterator[str]:
    spans = {"rating": RATINGS, "count": (0.0, np.inf), "timestamp": (0, np.inf)}
    for name, (low, high) in spans.items():
        values = log.interactions[name].drop_null().to_numpy()
        if not ((values >= low) & (values <= high)).all():  # NaN is neither
            yield f"interactions['{name}'] has values that are not in {low:g} to {high:g}"


def _accounts(log: Log) -> Iterator[str]:
    refused = Counter(log.rejected["file"].to_pylist())
    for account in log.files:
        if account.accepted + account.rejected != account.lines:
            yield (
                f"{account.file}: {account.accepted} accepted + {account.rejected} rejected are not its "
                f"{account.lines} lines: each line must be one or the other"
            )
        if refused[account.file] != account.rejected:
            yield f"{account.file}: {account.rejected} lines are rejected, {refused[account.file]} stand in `rejected`"
    if unknown := set(refused) - {account.file for account in log.files}:
        yield f"`rejected` names files without an account: {sorted(unknown)}"


def _examples(log: Log) -> Iterator[str]:
    for split, table in log.examples.items() if isinstance(log, PublishedLog) else ():
        items, target = log.items.num_rows, table["target"].to_numpy()
        sizes = pc.list_value_length(table["candidates"]).to_numpy()
        if not ((target >= 0) & (target < sizes)).all():
            yield f"examples['{split}']: a target is no index into its candidates"
        for name in ("candidates", "history"):
            values = table[name].combine_chunks().flatten().to_numpy()
            if values.size and (values.min() < 0 or values.max() >= items):
                yield f"examples['{split}']['{name}'] names items that there are not"


def _same_again(log: Log, again: Log) -> Iterator[str]:
    for name in TABLES:
        if not getattr(log, name).equals(getattr(again, name)):
            yield f"read twice, {name} differs: an address of a stage would lie"


def _repeated(column: pa.ChunkedArray) -> str:
    counts = Counter(column.to_pylist())
    return ", ".join(repr(value) for value, count in counts.most_common(3) if count > 1)
