"""The canonical tables: what every source gives, and what every later stage reads.

All ids are dense int32 codes; the raw ids live in the `items` and `users` tables. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

INTERACTIONS = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),
        pa.field("rating", pa.float32()),  # 0.5..5, null for implicit feedback
        pa.field("count", pa.float32()),  # plays, hours ..., null for explicit feedback
        pa.field("timestamp", pa.int64()),  # null where the data set has no times
        pa.field("position", pa.int32(), nullable=False),  # 0-based place in the user's sequence
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),  # unique
        pa.field("metadata", pa.string()),  # JSON
    ]
)
USERS = pa.schema([pa.field("user", pa.int32(), nullable=False), pa.field("user_id", pa.string(), nullable=False)])
REJECTED = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),  # 1-based; 0 where the fault is not in one line
        pa.field("reason", pa.string()),
        pa.field("text", pa.string()),
    ]
)

# One row a preference example. Lists of `candidates` order are aligned with each other.
EXAMPLES = pa.schema(
    [
        pa.field("example", pa.int64(), nullable=False),  # row number within the split
        pa.field("user", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # of the target in the user's sequence
        pa.field("timestamp", pa.int64()),  # of the target
        pa.field("history", pa.list_(pa.int32()), nullable=False),  # oldest first
        pa.field("history_rating", pa.list_(pa.float32()), nullable=False),
        pa.field("candidates", pa.list_(pa.int32()), nullable=False),  # shuffled; one is the target
        pa.field("target", pa.int32(), nullable=False),  # index into candidates
        pa.field("rating", pa.list_(pa.float32()), nullable=False),  # of each candidate, NaN: never interacted
        pa.field("latency", pa.list_(pa.float32()), nullable=False),  # steps from the cut, 1 = next, NaN: never
        pa.field("latency_days", pa.list_(pa.float32()), nullable=False),  # the same in days, NaN: never or no times
    ]
)


@dataclass(frozen=True)
class FileAccount:
    """What became of the lines (or records) of one input file. Blank lines and the header are not counted."""

    file: str
    lines: int
    accepted: int
    rejected: int
    continued: int = 0
    """Further lines of records with line breaks inside quotes; each such record counts as one line, its first."""


@dataclass(frozen=True)
class Log:
    """A data set in canonical form: interactions sorted by (user, position)."""

    name: str
    domain: str
    """What the items are: movie, book, music, game, beer or product. Chooses the prompt's words."""
    interactions: pa.Table
    items: pa.Table
    users: pa.Table
    rejected: pa.Table
    """Input lines that were refused, with the reason: accepted + rejected = lines, for each file."""
    files: tuple[FileAccount, ...] = ()
    """The account of each input file."""
    assumed: tuple[str, ...] = ()
    """What the reader found in the files and nobody said: separator, encoding, units, scales."""

    @property
    def has_times(self) -> bool:
        column = self.interactions["timestamp"]
        return bool(column.null_count < len(column))


@dataclass(frozen=True)
class PublishedLog(Log):
    """Ready-made examples instead of a log: `interactions` holds what their histories and training targets show.

    Users are the chains that consecutive examples form, so they are a guess; there are no times.
    """

    examples: dict[str, pa.Table] = field(default_factory=dict)
    """`EXAMPLES` by split name (train, validation, test; those that the publisher gave)."""
