"""Pandas frames from pickles that nobody vouches for.

A pickle can run any code. This reader imports nothing and calls nothing that a pickle names: each class or function it
mentions becomes an inert record of its arguments and state, out of which the frame's columns are then read. Only plain
values (numbers, strings, lists, tuples) come through. Both layouts that pandas has written since 0.14 are known.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from raypref.errors import UserError

DTYPES = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "b1"}
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocols 0 to 2 spell them
FRAMES = {"pandas.core.frame.DataFrame", "pandas.DataFrame"}
ALLOWED = ("pandas.", "numpy.", "builtins.slice", "copyreg._reconstructor", "_codecs.encode", "functools.partial")


class _Record:
    """What a pickle wanted to build: a name, arguments, a state."""

    name = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> _Record:
        record = object.__new__(cls)
        record.args = args
        return record

    def __init__(self, *args: Any, **_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Refused(Exception):
    """The pickle holds something other than a frame of plain values."""


class _Reader(pickle._Unpickler):  # the one in Python: its memo can't be blown up by a forged index
    dispatch = {  # noqa: RUF012 - as its parent has it
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if code not in (pickle.NEXT_BUFFER[0], pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0])
    }

    def load_bytearray8(self: Any) -> None:  # its parent would set aside as many bytes as the pickle claims to hold
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(min(size, sys.maxsize)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        full = f"{PYTHON_2.get(module, module)}.{name}"
        if not full.startswith(ALLOWED):
            raise _Refused(f"it names {full}")
        return type("Record", (_Record,), {"name": full})

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it names a persistent id")


def read_frame(file: Path) -> dict[str, list[Any]]:
    """The columns of a pickled frame, by name, as lists of plain values."""
    try:
        record = _Reader(io.BytesIO(file.read_bytes())).load()
        columns = _columns(record)
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise _Refused("its columns have different lengths")
    except _Refused as error:
        raise UserError(
            f"the pickle is no frame of plain values: {error}", where=str(file), hint="use LLaRA's own file"
        ) from None
    except Exception as error:  # a broken pickle fails in any way it likes, but only here
        raise UserError(
            f"the pickle can't be read: {type(error).__name__}: {error}", where=str(file), hint="download it again"
        ) from None
    return columns


def _columns(frame: Any) -> dict[str, list[Any]]:
    made_by = {frame.name, *(getattr(a, "name", "") for a in frame.args)} if isinstance(frame, _Record) else set()
    if not made_by & FRAMES:
        raise _Refused("it is no DataFrame")
    state = frame.state if isinstance(frame.state, dict) else {}
    manager = state.get("_mgr", state.get("_data"))
    if not isinstance(manager, _Record):
        raise _Refused("it has no blocks")
    if isinstance(manager.state, tuple) and len(manager.state) == 4:  # before pandas 1.3
        layout = manager.state[3]["0.14.1"]
        axes, blocks = layout["axes"], [(block["values"], block["mgr_locs"]) for block in layout["blocks"]]
    else:
        blocks = [(block.args[0], block.args[1]) for block in manager.args[0]]
        axes = manager.args[1]
    names = _index(axes[0])
    columns: dict[str, list[Any]] = {}
    for values, where in blocks:
        array = _array(values)
        for row, place in enumerate(_places(where)):
            columns[str(names[place])] = [_value(v) for v in array[row].tolist()]
    return columns


def _places(where: Any) -> list[int]:
    if isinstance(where, _Record) and where.name == "builtins.slice":
        return list(range(*slice(*where.args).indices(1 << 20)))
    return [int(i) for i in _array(where).tolist()]


def _index(index: Any) -> list[Any]:
    if not isinstance(index, _Record):
        raise _Refused("its columns have no names")
    data = index.args[1] if len(index.args) == 2 and isinstance(index.args[1], dict) else {}
    if "data" in data:
        return [_value(v) for v in _array(data["data"]).tolist()]
    if "start" in data:
        return list(range(int(data["start"]), min(int(data["stop"]), 1 << 20), int(data["step"])))
    raise _Refused("its columns have no names")


def _array(record: Any) -> np.ndarray:
    """An array of plain values, from its shape, type and bytes or list."""
    if isinstance(record, _Record) and record.name.endswith("._frombuffer") and len(record.args) == 4:  # protocol 5
        data, dtype, shape, order = record.args
        return np.frombuffer(_bytes(data), dtype=_plain_type(dtype)).reshape(shape, order=order)
    if isinstance(record, _Record) and "ndarray" not in str(record.name) and record.args and not record.state:
        return _array(record.args[0])  # a wrapper, such as StringArray
    if not isinstance(record, _Record) or not isinstance(record.state, tuple) or len(record.state) != 5:
        raise _Refused("a block is no plain array")
    _, shape, dtype, fortran, data = record.state
    kind = _plain_type(dtype)
    if kind.hasobject:
        flat = np.empty(len(data), dtype=object)
        flat[:] = list(data)
    else:
        flat = np.frombuffer(_bytes(data), dtype=kind)
    return flat.reshape(shape, order="F" if fortran else "C")


def _plain_type(dtype: Any) -> np.dtype:
    kind = dtype.args[0] if isinstance(dtype, _Record) and dtype.args else ""
    if kind in ("O", "O8"):
        return np.dtype(object)
    if kind not in DTYPES:
        raise _Refused(f"a block holds values of type {kind!r}")
    order = dtype.state[1] if isinstance(dtype.state, tuple) and dtype.state[1] in ("<", ">") else "<"
    return np.dtype(order + kind)


def _bytes(data: Any) -> bytes:
    if isinstance(data, _Record) and data.name == "_codecs.encode":  # how protocols 0 to 2 spell bytes
        data = data.args[0].encode("latin-1")
    if not isinstance(data, bytes):
        raise _Refused("a block has no bytes")
    return data


def _value(value: Any) -> Any:
    """A plain value: number, text, None, or a list or tuple of such."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return type(value)(_value(v) for v in value)
    if isinstance(value, _Record) and value.name.endswith("multiarray.scalar"):
        dtype, data = value.args
        return np.frombuffer(_bytes(data), dtype=_plain_type(dtype))[0].item()
    raise _Refused(f"a cell holds {getattr(value, 'name', '') or type(value).__name__}")
