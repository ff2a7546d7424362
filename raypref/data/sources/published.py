"""Ready-made examples (a history, a target, perhaps candidates) as a `PublishedLog`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypref.data.canonical import unique_titles
from raypref.data.schema import EXAMPLES, INTERACTIONS, ITEMS, USERS, FileAccount, PublishedLog
from raypref.errors import UserError


@dataclass(frozen=True)
class Ready:
    """One example as published; items are raw ids."""

    history: list[str]
    target: str
    candidates: list[str]
    """Holds the target once; the target alone where no candidates were published."""
    history_rating: list[float]
    rating: float
    """Of the target; NaN where none was published."""


def published_log(
    name: str,
    domain: str,
    splits: dict[str, list[Ready]],
    titles: dict[str, str],
    rejected: pa.Table,
    files: tuple[FileAccount, ...],
) -> PublishedLog:
    """Encode examples; `titles` names every item by its raw id.

    Who an example belongs to was not published: consecutive examples that continue each other are taken for one user.
    """
    if not any(splits.values()):
        raise UserError(f"{name}: no usable example is left", where="data.source", hint="check the files")
    item_ids = sorted(titles)
    code = {item: i for i, item in enumerate(item_ids)}
    ids = pa.array(item_ids, pa.string())
    examples: dict[str, pa.Table] = {}
    sequences: list[tuple[list[str], list[float]]] = []
    for split, ready in splits.items():
        examples[split] = _table(ready, code, sequences)
    user = np.repeat(np.arange(len(sequences), dtype=np.int32), [len(items) for items, _ in sequences])
    position = np.concatenate([np.arange(len(items), dtype=np.int32) for items, _ in sequences])
    n = len(user)
    rating = np.array([r for _, ratings in sequences for r in ratings], dtype=np.float32)
    columns = {
        "user": user,
        "item": np.array([code[item] for items, _ in sequences for item in items], dtype=np.int32),
        "rating": pa.array(rating, from_pandas=True),
        "count": pa.nulls(n, pa.float32()),
        "timestamp": pa.nulls(n, pa.int64()),
        "position": position,
    }
    users = np.arange(len(sequences), dtype=np.int32)
    return PublishedLog(
        name=name,
        domain=domain,
        interactions=pa.table(columns, schema=INTERACTIONS),
        items=pa.table(
            {
                "item": np.arange(len(ids), dtype=np.int32),
                "item_id": ids,
                "title": unique_titles(pa.array([titles[item] for item in item_ids], pa.string()), ids),
                "metadata": pa.nulls(len(ids), pa.string()),
            },
            schema=ITEMS,
        ),
        users=pa.table({"user": users, "user_id": [f"chain {i}" for i in users]}, schema=USERS),
        rejected=rejected,
        files=files,
        examples=examples,
    )


def _table(ready: list[Ready], code: dict[str, int], sequences: list[tuple[list[str], list[float]]]) -> pa.Table:
    """`EXAMPLES` of one split; the chains found in it are added to `sequences`."""
    longest = max((len(r.history) for r in ready), default=0)
    user, position = [], []
    previous: Ready | None = None
    for r in ready:
        if previous is None or not _continues(previous, r, longest):
            sequences.append((list(r.history), list(r.history_rating)))
        user.append(len(sequences) - 1)
        position.append(len(sequences[-1][0]))
        sequences[-1][0].append(r.target)
        sequences[-1][1].append(r.rating)
        previous = r
    nan = float("nan")
    hits = [[c == r.target for c in r.candidates] for r in ready]
    return pa.table(
        {
            "example": np.arange(len(ready)),
            "user": pa.array(user, pa.int32()),
            "position": pa.array(position, pa.int32()),
            "timestamp": pa.nulls(len(ready), pa.int64()),
            "history": [[code[item] for item in r.history] for r in ready],
            "history_rating": [r.history_rating for r in ready],
            "candidates": [[code[item] for item in r.candidates] for r in ready],
            "target": pa.array([hit.index(True) for hit in hits], pa.int32()),
            "rating": [[r.rating if h else nan for h in hit] for r, hit in zip(ready, hits)],
            "latency": [[1.0 if h else nan for h in hit] for hit in hits],
            "latency_days": [[nan] * len(hit) for hit in hits],
        },
        schema=EXAMPLES,
    )


def _continues(before: Ready, after: Ready, longest: int) -> bool:
    """Whether `after`'s history is `before`'s and its target, cut to the `longest` that the publisher shows."""
    whole = [*before.history, before.target]
    return after.history == whole[-longest:] and len(after.history) == min(len(whole), longest)
