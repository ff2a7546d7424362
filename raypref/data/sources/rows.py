"""Rows of a file on their way to acceptance: typed, checked, and refused with a reason where they fail.

Every reader goes the same way: a format gives `Rows` (columns of text or numbers, block by block), the source checks
them, a `Sink` takes what is left and keeps the account, so that accepted + rejected = lines without anyone's care.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.schema import REJECTED, FileAccount
from raypref.data.sources.files import rejected_table, tolerate
from raypref.data.title_text import normalized_column

CODED = pa.dictionary(pa.int32(), pa.string())  # an id in four bytes
INTERACTION_ROWS = pa.schema(
    [
        ("user_id", CODED),
        ("item_id", CODED),
        ("rating", pa.float32()),
        ("count", pa.float32()),
        ("timestamp", pa.int64()),
        ("line", pa.int32()),
    ]
)
ITEM_ROWS = pa.schema(
    [("item_id", pa.string()), ("title", pa.string()), ("metadata", pa.string()), ("line", pa.int32())]
)
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
LATEST = 253_402_300_799  # the end of the year 9999: a time in milliseconds is past it
RATINGS = (0.5, 5.0)
HOPELESS = 10_000  # so many broken lines, more than half of those read: no need to read on


class Rows:
    """Lines of one block: their numbers, text and columns, and which of them are refused, and why."""

    def __init__(self, number: np.ndarray, text: pa.Array, columns: dict[str, pa.Array], continued: int = 0) -> None:
        """`continued`: lines that belong to a record which begins in a line before them."""
        self.number, self.text, self.columns, self.continued = number, text, columns, continued
        self._reason = np.zeros(len(number), dtype=np.int16)
        self._reasons = [""]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def good(self) -> np.ndarray:
        good: np.ndarray = self._reason == 0
        return good

    def refuse(self, bad: np.ndarray | pa.Array, reason: str) -> None:
        """Refuse the rows in which `bad` is true, unless they are already."""
        bad = np.asarray(bad) & self.good
        if bad.any():
            self._reasons.append(reason)
            self._reason[bad] = len(self._reasons) - 1

    def reasons(self) -> list[str]:
        """Of the refused rows, in order."""
        return [self._reasons[i] for i in self._reason[self._reason > 0]]

    def text_of(self, name: str, what: str) -> pa.Array:
        """A trimmed text column; empty ones are refused."""
        trimmed = pc.utf8_trim_whitespace(self.columns[name])
        self.refuse(pc.fill_null(pc.equal(pc.binary_length(trimmed), 0), True), f"{what} is empty")
        return trimmed

    def title_of(self, name: str, what: str = "title") -> pa.Array:
        """A column of titles in the form of `title_text.normalized`; those of which nothing is left are refused."""
        titles = normalized_column(self.columns[name])
        self.refuse(pc.fill_null(pc.equal(pc.binary_length(titles), 0), True), f"{what} is empty")
        return titles

    def number_of(self, name: str, what: str, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """A column of numbers as float64; those that are none, or not in low..high, are refused."""
        value = to_numbers(self.columns[name])
        span = f"not a number >= {low:g}" if high == np.inf else f"not in {low:g}..{high:g}"
        self.refuse(~((value >= low) & (value <= high)), f"{what} is {span}")
        return value

    def optional_number_of(self, name: str, what: str, low: float) -> np.ndarray:
        """The same where a missing value is no fault; it is NaN."""
        value = to_numbers(self.columns[name])
        there = np.asarray(pc.is_valid(self.columns[name]))
        self.refuse(there & ~((value >= low) & (value < np.inf)), f"{what} is not a number >= {low:g}")
        return value

    def rating_of(self, name: str) -> np.ndarray:
        return self.number_of(name, "rating", *RATINGS)

    def seconds_of(self, name: str, per_second: int = 1) -> np.ndarray:
        """A column of Unix times as int64 seconds; `per_second` of its units make one."""
        value = np.floor(to_numbers(self.columns[name]) / per_second)
        self.refuse(~((value >= 0) & (value <= LATEST)), "time is not Unix seconds >= 0")
        return np.where(self.good, value, 0).astype(np.int64)

    def dates_of(self, name: str, form: str) -> np.ndarray:
        """A column of dates in one `strptime` form as int64 Unix seconds, taken as UTC."""
        parsed = pc.strptime(self.columns[name], format=form, unit="s", error_is_null=True)
        value = np.asarray(parsed.cast(pa.int64()).fill_null(-1))
        self.refuse((value < 0) | (value > LATEST), f"time is not a date like {form} from 1970 on")
        return value


def to_numbers(column: pa.Array) -> np.ndarray:
    """float64, NaN where a value is missing or not a decimal number."""
    if pa.types.is_string(column.type):
        try:
            column = pc.cast(column, pa.float64())
        except pa.ArrowInvalid:  # only a block with a fault pays for finding it
            trimmed = pc.utf8_trim_whitespace(column)
            number = pc.match_substring_regex(trimmed, NUMBER)
            column = pc.cast(pc.if_else(number, trimmed, pa.scalar(None, pa.string())), pa.float64())
    return np.asarray(pc.cast(column, pa.float64(), safe=False).fill_null(np.nan))  # past 2**53 rounded


@dataclass(frozen=True)
class FileTable:
    """What one file gave."""

    file: Path
    table: pa.Table
    rejected: pa.Table
    account: FileAccount


class Sink:
    """Gathers the accepted rows of one file in few bytes each, and its refused lines."""

    def __init__(self, file: Path, limit: float, schema: pa.Schema) -> None:
        self.file, self.limit, self.schema = file, limit, schema
        self._accepted: list[pa.RecordBatch] = []
        self._rejected: list[pa.Table] = []
        self._lines = self._refused = self._continued = 0

    def add(self, rows: Rows, **columns: pa.Array | np.ndarray) -> None:
        """Take the good rows of a block; a column that is not given is null."""
        good = rows.good
        keep = pa.array(good)
        columns["line"] = rows.number
        arrays = []
        for field in self.schema:
            given = columns.get(field.name)
            if given is None:
                arrays.append(pa.nulls(int(good.sum()), field.type))
                continue
            array = given[good] if isinstance(given, np.ndarray) else given.filter(keep)
            arrays.append(self._typed(array, field.type))
        self._accepted.append(pa.record_batch(arrays, schema=self.schema))
        self._lines += len(rows)
        self._continued += rows.continued
        if not good.all():
            texts = rows.text.filter(pc.invert(keep)).to_pylist()
            table = rejected_table(self.file, rows.number[~good].tolist(), rows.reasons(), texts)
            self._rejected.append(table)
            self._refused += len(texts)
            if self._refused > max(HOPELESS, self._lines / 2):
                self._tolerate()

    @staticmethod
    def _typed(array: pa.Array | np.ndarray, kind: pa.DataType) -> pa.Array:
        if isinstance(array, np.ndarray):
            array = pa.array(array, from_pandas=True)  # NaN is null
        if kind == CODED and not pa.types.is_dictionary(array.type):
            return array.dictionary_encode()
        return array.cast(kind)

    def _tolerate(self) -> pa.Table:
        rejected = pa.concat_tables([REJECTED.empty_table(), *self._rejected])
        tolerate(rejected, self._lines, self.limit, self.file)
        return rejected

    def finish(self) -> FileTable:
        """The file's table, or a UserError where too much of it is broken."""
        rejected = self._tolerate()
        table = pa.Table.from_batches(self._accepted, schema=self.schema).unify_dictionaries()
        account = FileAccount(self.file.name, self._lines, table.num_rows, rejected.num_rows, self._continued)
        return FileTable(self.file, table, rejected, account)
