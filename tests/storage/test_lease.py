"""One process makes an output, the others wait, and take over where it has died; on a disk and in an object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from raypref.storage import lease as module
from raypref.storage.bucket import Bucket
from raypref.storage.lease import FOLDER, FileLease, leased
from raypref.storage.store import MIRROR, Address, Store

HERE = Address("sft", "run", "0123456789ab")


class Shared(MemoryFileSystem):
    protocol = "leasetest"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, seconds in (("BEAT_S", 0.1), ("DEAD_S", 1.0), ("POLL_S", 0.02), ("SETTLE_S", 0.6)):
        monkeypatch.setattr(module, name, seconds)
    if request.param == "disk":
        yield Store(tmp_path / "root")
        return
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    fsspec.register_implementation("leasetest", Shared, clobber=True)
    yield Store("leasetest://results")
    Shared.store.clear()
    Bucket.at.cache_clear()


def make(store: Store) -> None:
    with store.writing(HERE, {}, {}) as (folder, _):
        (folder / "file").write_text("x")


def together(store: Store, count: int) -> list[str]:
    """What `count` that need the same output at the same time did."""
    did: list[str] = []
    inside: list[int] = []

    def need(_: int) -> None:
        with leased(store, HERE):
            if store.done(HERE):
                did.append("waited")
                return
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.4)
            make(store)
            inside.pop()
            did.append("made")

    threads = [threading.Thread(target=need, args=[i]) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return did


def test_one_makes_it_and_the_others_wait(store: Store) -> None:
    assert sorted(together(store, 8)) == ["made", *["waited"] * 7]
    assert left(store) == []


def left(store: Store) -> list[str]:
    """Leases that nobody gave back."""
    if store.bucket is not None:
        return list(store.bucket.files(FOLDER))
    return [path.name for path in (store.root / FOLDER).iterdir()]


def lie(store: Store, host: str, pid: int) -> None:
    """Leave the lease of an owner that does not renew it."""
    owner = {"owner": "someone", "host": host, "pid": pid}
    name = str(HERE).replace("/", "-")
    if store.bucket is not None:
        content = owner | {"claimed": time.time() - 9, "held": True, "renewals": 0}
        store.bucket.write(f"{FOLDER}/{name}/someone", json.dumps(content).encode())
        return
    path = store.root / FOLDER / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(owner))


def test_a_process_of_this_machine_that_ended_is_seen_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_S", 1000.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lie(store, module.socket.gethostname(), ended.pid)
    with leased(store, HERE):
        assert not store.done(HERE)
    assert left(store) == []


def test_one_of_another_machine_is_taken_over_when_it_was_silent_long_enough(store: Store) -> None:
    lie(store, "elsewhere", os.getpid())
    began = time.monotonic()
    with leased(store, HERE):
        assert time.monotonic() - began >= module.DEAD_S
    assert left(store) == []


def test_one_that_lives_is_waited_for_however_long_it_takes(store: Store) -> None:
    """Three times as long as a dead one would be."""
    order: list[str] = []

    def first() -> None:
        with leased(store, HERE):
            began.set()
            time.sleep(3 * module.DEAD_S)
            order.append("first")
            make(store)

    began = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    began.wait(30)
    with leased(store, HERE):
        order.append("second")
        assert store.done(HERE)
    thread.join(30)
    assert order == ["first", "second"]


def test_where_the_maker_fails_the_next_one_tries(store: Store) -> None:
    with pytest.raises(RuntimeError), leased(store, HERE):
        raise RuntimeError
    assert together(store, 1) == ["made"]


def test_a_lease_that_has_changed_hands_is_not_ended(tmp_path: Path) -> None:
    """Two find the same owner dead; the faster one's lease is not the dead one's."""
    path = tmp_path / "lease"
    dead, faster, slower = (FileLease(path) for _ in range(3))
    assert dead.take() is None
    seen = slower.take()
    assert seen is not None
    assert seen.owner == dead.own["owner"]
    faster.remove(seen)
    assert faster.take() is None
    slower.remove(seen)
    assert (held := slower.take()) is not None
    assert held.owner == faster.own["owner"]
    dead.release()  # it lives after all
    assert json.loads(path.read_text())["owner"] == faster.own["owner"]


def test_what_is_done_needs_no_lease(store: Store) -> None:
    make(store)
    lie(store, "elsewhere", 1)
    began = time.monotonic()
    with leased(store, HERE):
        assert time.monotonic() - began < module.DEAD_S
