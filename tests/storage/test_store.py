"""The store: written whole or not at all, and clear words about a disk that refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from raypref.errors import UserError
from raypref.provenance import provenance
from raypref.storage import store as store_module
from raypref.storage.store import MANIFEST, Address, Store, digest, disk_faults, write_json

HERE = Address("align", "run", "0123456789ab")


def write(store: Store, text: str = "x") -> None:
    with store.writing(HERE, {"a": 1}, {"sft": "sft/run-1"}) as (folder, facts):
        (folder / "output").write_text(text)
        facts["steps"] = 3


def leftovers(store: Store) -> list[str]:
    return [str(path.relative_to(store.root)) for path in store.root.rglob("*")]


def test_an_output_comes_with_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.done(HERE)
    write(store)
    assert store.done(HERE)
    assert store.path(HERE) == tmp_path / "align/run-0123456789ab"
    manifest = store.manifest(HERE)
    assert manifest["facts"] == {"steps": 3}
    assert (manifest["config"], manifest["inputs"]) == ({"a": 1}, {"sft": "sft/run-1"})
    assert manifest["provenance"]["versions"].keys() == provenance()["versions"].keys()
    assert {path.name for path in store.path(HERE).iterdir()} == {"output", MANIFEST}
    assert len(leftovers(store)) == 4


def test_a_body_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails() -> None:
        with store.writing(HERE, {}, {}) as (folder, _):
            (folder / "half").write_text("half")
            raise ValueError("struck")

    with pytest.raises(ValueError, match="struck"):
        fails()
    assert not store.done(HERE)
    assert leftovers(store) == ["align"]


def test_an_output_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing(HERE, {}, {}) as (folder, _):
        (folder / "output").write_text("x")
        assert not store.done(HERE)
        assert not store.path(HERE).exists()
    assert store.done(HERE)


def test_of_two_writers_the_first_to_finish_wins(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing(HERE, {}, {}) as (folder, _):
        (folder / "output").write_text("slow")
        write(store, "quick")
    assert (store.path(HERE) / "output").read_text() == "quick"
    assert [path.name for path in store.path(HERE).parent.iterdir()] == [store.path(HERE).name]


def test_the_other_may_finish_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, rename = Store(tmp_path), os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        write(store, "quick")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    write(store, "slow")
    assert (store.path(HERE) / "output").read_text() == "quick"


def test_a_folder_without_manifest_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "old")
    (store.path(HERE) / MANIFEST).unlink()
    assert not store.done(HERE)
    write(store, "new")
    assert store.done(HERE)
    assert (store.path(HERE) / "output").read_text() == "new"


def test_scratch_goes_when_the_output_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.scratch(HERE).mkdir(parents=True)
    with pytest.raises(ValueError, match="struck"), store.writing(HERE, {}, {}):
        raise ValueError("struck")
    assert store.scratch(HERE).is_dir()  # the next attempt goes on from there
    write(store)
    assert not store.scratch(HERE).exists()


def test_what_killed_writers_left_goes_after_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, young = (tmp_path / "align" / f".tmp-{name}" for name in ("old", "young"))
    for path in (old, young):
        path.mkdir(parents=True)
    past = time.time() - 25 * 3600
    os.utime(old, (past, past))
    write(store)
    assert not old.exists()
    assert young.exists()


def test_a_full_disk_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "sync", full)
    with pytest.raises(UserError, match="the disk is full") as caught:
        write(store)
    assert caught.value.where == str(tmp_path)
    assert "free some space" in caught.value.hint
    assert not store.done(HERE)
    assert leftovers(store) == ["align"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_library_s_way_to_say_full(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="the disk is full"), disk_faults(tmp_path):
        raise error


def test_faults_of_other_places_are_left_alone(tmp_path: Path) -> None:
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/data/u.data")
    with pytest.raises(PermissionError), disk_faults(tmp_path / "results"):
        raise elsewhere
    own = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "results/sft"))
    with pytest.raises(UserError, match="results can't be written"), disk_faults(tmp_path / "results"):
        raise own


def test_too_little_space_is_known_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    Store(tmp_path).check_space(2_000_000)
    with pytest.raises(UserError, match=r"0\.00 GB are free on the disk; this run may need 0\.50 GB"):
        Store(tmp_path).check_space(500_000_000)


@pytest.mark.parametrize("inside", ["", "results"])
def test_a_root_that_is_a_file_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / inside)
    with pytest.raises(UserError, match="results can't be written") as caught:
        store.check_space(1)
    assert "--root" in caught.value.hint
    with pytest.raises(UserError, match="results can't be written"):
        write(store)


def test_a_root_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="results can't be written"):
        Store(tmp_path).check_space(1)


def test_a_digest_follows_content_not_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest(None)) == 12


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    write_json(path, {"a": 1})
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, endless)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["state.json"]
