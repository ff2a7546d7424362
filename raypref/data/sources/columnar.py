"""Tables that carry their own types: Parquet and Feather (Arrow), by their first bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.sources.opening import FEATHER, HEAD, PARQUET, magic_of, opened
from raypref.data.sources.rows import Rows
from raypref.errors import UserError

EXACT = 1 << 53  # past it a float64 no longer holds every whole number


class ColumnarFile:
    """A Parquet or Feather file: the names of its columns, and rows block by block."""

    def __init__(self, file: Path, magic: bytes) -> None:
        self.file, self._magic = file, magic
        schema = self._guarded(self._schema)
        self.names: tuple[str, ...] = tuple(schema.names)
        self.times = tuple(field.name for field in schema if _is_time(field.type))
        """Columns that are times by their type."""

    def rows(self, wanted: Sequence[str]) -> Iterator[Rows]:
        """All rows, with the `wanted` columns as text, numbers or truth values; numbered from 1."""
        seen = 0
        batches = self._guarded(lambda: self._batches(list(dict.fromkeys(wanted))))
        while (batch := self._guarded(lambda: next(batches, None))) is not None:
            columns = {name: self._guarded(lambda name=name: self._plain(batch[name], name)) for name in wanted}
            text = pc.binary_join_element_wise(
                *(array.cast(pa.string()) for array in columns.values()),
                ",",
                null_handling="replace",
                null_replacement="",
            )
            yield Rows(np.arange(seen + 1, seen + 1 + len(batch)), text, columns)
            seen += len(batch)

    def _guarded(self, read: Any) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"not a readable {'Parquet' if self._magic == PARQUET else 'Feather'} file: {error}",
                where=str(self.file),
                hint="write it again",
            ) from None

    def _source(self) -> Any:
        if magic_of(self.file).startswith(self._magic):
            return str(self.file)
        with opened(self.file) as stream:  # packed as a whole: its parts can only be found in memory
            return pa.BufferReader(stream.read())

    def _opened(self) -> Any:
        if self._magic == PARQUET:
            import pyarrow.parquet as pq

            return pq.ParquetFile(self._source())
        source = self._source()
        return pa.ipc.open_file(pa.memory_map(source) if isinstance(source, str) else source)

    def _schema(self) -> Any:
        table = self._opened()
        return table.schema_arrow if self._magic == PARQUET else table.schema

    def _batches(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        table = self._opened()
        if self._magic == PARQUET:
            yield from table.iter_batches(columns=wanted)
        else:
            for i in range(table.num_record_batches):
                yield table.get_batch(i).select(wanted)

    def _plain(self, array: pa.Array, name: str) -> pa.Array:
        """As text, numbers or truth values; times as Unix seconds."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        kind = array.type
        if _is_time(kind):
            return array.cast(pa.timestamp("s"), safe=False).cast(pa.int64()).cast(pa.float64())
        if pa.types.is_integer(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind):
            return array
        if pa.types.is_floating(kind):
            return array.cast(pa.float64())
        if pa.types.is_decimal(kind):
            return array.cast(pa.string())
        if any(test(kind) for test in TEXTS):
            array.validate(full=True)  # a damaged file may hold text that is none
            return array.cast(pa.string())
        hint = "write it as text"
        if pa.types.is_struct(kind):
            fields = [kind.field(i).name for i in range(kind.num_fields)]
            module, ending = ("parquet", "parquet") if self._magic == PARQUET else ("feather", "feather")
            hint = (
                f"its fields are {', '.join(fields)}: make each a column ({name}.{fields[0] if fields else ''} ...) by "
                f"pyarrow.{module}.write_{'table' if module == 'parquet' else 'feather'}"
                f"(pyarrow.{module}.read_table('{self.file}').flatten(), 'flat.{ending}')"
            )
        raise UserError(f"column {name} holds {kind}, neither text nor numbers", where=str(self.file), hint=hint)


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def columnar_magic(file: Path) -> bytes | None:
    """Which of the two the file is, unpacked; None for text."""
    with opened(file) as stream:
        head = stream.peek(HEAD)[:HEAD]  # type: ignore[attr-defined]
    return next((magic for magic in (PARQUET, FEATHER) if head.startswith(magic)), None)


def ids_of_numbers(array: pa.Array, name: str, file: Path) -> pa.Array:
    """A column of ids as text: whole floats without their point, as pandas makes them where one is missing.

    Raises:
        UserError: floats past 2**53, of which several ids have become one.
    """
    if not pa.types.is_floating(array.type):
        return array.cast(pa.string())
    value = np.asarray(array.fill_null(np.nan))
    if (np.abs(value[np.isfinite(value)]) >= EXACT).any():
        raise UserError(
            f"the ids of column {name} are floats past 2**53, which are no longer exact: several may have become one",
            where=str(file),
            hint="write the ids as whole numbers or text (pandas: read them with dtype=str)",
        )
    whole = np.isfinite(value) & (value == np.floor(value))
    numbers = pa.array(np.where(whole, value, 0).astype(np.int64)).cast(pa.string())
    others = pc.if_else(pa.array(np.isfinite(value)), array.cast(pa.string()), pa.scalar(None, pa.string()))
    return pc.if_else(pa.array(whole), numbers, others)
