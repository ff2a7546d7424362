"""Pickled frames are read without importing or calling anything that they name."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pytest

from raypref.data.sources.frame_pickle import read_frame
from raypref.errors import UserError


def frame() -> pd.DataFrame:
    data = {"seq": [[1, 2], [3, 4]], "next": [5, 6], "score": [0.5, 1.5], "word": ["a", None], "pair": [(1, 5), (2, 4)]}
    result = pd.DataFrame(data).astype({"word": object})
    result.columns = pd.Index(result.columns, dtype=object)
    return result


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_through(tmp_path, protocol):
    frame().to_pickle(tmp_path / "f.df", protocol=protocol)
    wanted = {"seq": [[1, 2], [3, 4]], "next": [5, 6], "score": [0.5, 1.5], "pair": [(1, 5), (2, 4)]}
    read = read_frame(tmp_path / "f.df")
    assert read.pop("word")[0] == "a"
    assert read == wanted


def test_the_layout_of_older_pandas(tmp_path):
    """Before 1.3 a frame's blocks lay in a state of four parts; its classes are named here, never needed."""

    class Stub:
        def __init__(self, module, name, args=(), state=None):
            self.where, self.args, self.state = (module, name), args, state

    class Writer(pickle._Pickler):
        def save(self, obj, save_persistent_id=True):
            if isinstance(obj, Stub):
                self.write(pickle.GLOBAL + f"{obj.where[0]}\n{obj.where[1]}\n".encode())
                self.save(tuple(obj.args))
                self.write(pickle.REDUCE)
                if obj.state is not None:
                    self.save(obj.state)
                    self.write(pickle.BUILD)
                return
            super().save(obj, save_persistent_id)

    def index(names):
        return Stub("pandas.core.indexes.base", "_new_Index", ("Index", {"data": np.array(names, dtype=object)}))

    seq = np.empty((1, 2), dtype=object)
    seq[0, 0], seq[0, 1] = [1, 2, 3], [4, 5, 6]
    blocks = [
        {"values": np.array([[3, 3], [7, 8]]), "mgr_locs": np.array([1, 2])},
        {"values": seq, "mgr_locs": slice(0, 1, 1)},
    ]
    axes = [index(["seq", "len_seq", "next"]), index([0, 1])]
    state = (axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}})
    manager = Stub("pandas.core.internals.managers", "BlockManager", (), state)
    with open(tmp_path / "f.df", "wb") as out:
        Writer(out, 2).dump(Stub("pandas.core.frame", "DataFrame", (), {"_data": manager}))
    assert read_frame(tmp_path / "f.df") == {"len_seq": [3, 3], "next": [7, 8], "seq": [[1, 2, 3], [4, 5, 6]]}


class _Evil:
    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("inside", [False, True])
def test_code_is_refused_and_not_run(tmp_path, inside):
    evil = _Evil()
    _Evil.marker = str(tmp_path / "ran")
    content = frame().assign(next=[evil, 1]) if inside else evil
    (tmp_path / "f.df").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"it names posix\.system"):
        read_frame(tmp_path / "f.df")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"seq": [1]}, np.arange(3), pd.Series([1])])
def test_other_objects_are_refused(tmp_path, content):
    (tmp_path / "f.df").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError):
        read_frame(tmp_path / "f.df")


def test_forged_memo_index_takes_no_memory(tmp_path):
    (tmp_path / "f.df").write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")
    with pytest.raises(UserError):
        read_frame(tmp_path / "f.df")
