"""Results in an object store, here fsspec's one in memory: other machines have mirror folders of their own.

Amazon's protocol, with failing and slow requests, is in tests/cluster/test_s3.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from raypref.errors import UserError
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage import bucket as bucket_module
from raypref.storage import lease
from raypref.storage.bucket import Bucket
from raypref.storage.store import MANIFEST, MIRROR, Address, Store
from raypref.training import loop
from tests.support.shared_store import made
from tests.support.tiny_chain import TINY, changed, run

HERE = Address("align", "run", "0123456789ab")
TRAINED = ("model.safetensors", "rows.parquet", "metrics.jsonl")


class Flaky(MemoryFileSystem):
    """Fails every so many operations; remembers what was written, in order."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    every: int | None = None
    calls = 0
    written: ClassVar[list[str]] = []

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self.count()
        if "w" in mode:
            Flaky.written.append(path)
        return super()._open(path, mode, **options)

    def info(self, path: str, **options: Any) -> Any:
        self.count()
        return super().info(path, **options)

    def count(self) -> None:
        Flaky.calls += 1
        if Flaky.every is not None and Flaky.calls % Flaky.every == 0:
            raise OSError("500 Internal Server Error")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(bucket_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(lease, "SETTLE_S", 0.01)
    machine(monkeypatch, tmp_path, "a")
    Flaky.every, Flaky.calls, Flaky.written = None, 0, []
    yield
    Flaky.store.clear()
    Bucket.at.cache_clear()


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> Store:
    """A store as another machine sees it."""
    monkeypatch.setenv(MIRROR, str(tmp_path / name))
    return Store("flaky://results")


def write(store: Store, text: str = "x") -> None:
    with store.writing(HERE, {"a": 1}, {}) as (folder, facts):
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(text)
        facts["steps"] = 3


@pytest.mark.parametrize("every", [None, 3])
def test_what_one_machine_writes_another_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | None
) -> None:
    Flaky.every = every
    store = machine(monkeypatch, tmp_path, "a")
    assert not store.done(HERE)
    write(store)
    assert [path.rsplit("/", 1)[-1] for path in Flaky.written][-1] == MANIFEST
    other = machine(monkeypatch, tmp_path, "b")
    assert other.done(HERE)
    assert not (other.root / str(HERE)).exists()
    assert other.manifest(HERE)["facts"] == {"steps": 3}
    folder = other.path(HERE)
    assert folder.is_relative_to(tmp_path / "b")
    assert (folder / "model" / "weights").read_text() == "x"
    assert not list((tmp_path / "b").rglob(".tmp-*"))


def test_a_path_is_fetched_where_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ray sends a task to another machine."""
    import pickle

    store = machine(monkeypatch, tmp_path, "a")
    write(store)
    sent = pickle.dumps(store.path(HERE))
    machine(monkeypatch, tmp_path, "b")
    arrived = pickle.loads(sent)
    assert arrived.is_relative_to(tmp_path / "b")
    assert (arrived / "model" / "weights").read_text() == "x"


def test_an_upload_that_breaks_off_leaves_nothing_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine(monkeypatch, tmp_path, "a")

    def broken(path: Path, name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.bucket, "upload", broken)
        with pytest.raises(KeyboardInterrupt):
            write(store)
    assert not store.done(HERE)
    write(store, "again")
    assert machine(monkeypatch, tmp_path, "b").path(HERE).joinpath("model/weights").read_text() == "again"


def test_a_garbled_object_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine(monkeypatch, tmp_path, "a")
    write(store)
    assert store.bucket is not None
    store.bucket.write(f"{HERE}/model/weights", b"y")
    with pytest.raises(UserError, match="a file is not what was written") as refused:
        machine(monkeypatch, tmp_path, "b").path(HERE)
    assert refused.value.where == f"flaky://results/{HERE}/model/weights"
    assert not (tmp_path / "b").joinpath(str(HERE)).exists()


def test_a_store_that_never_answers_is_named() -> None:
    Flaky.every = 1
    bucket = Bucket("flaky://results", patience_s=0.05)
    with pytest.raises(UserError, match="has not answered for 0 s: 500 Internal Server Error") as refused:
        bucket.exists("x")
    assert "nothing that is finished is repeated" in refused.value.hint


def test_a_chain_has_the_same_results_there(
    shared_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, plan = shared_store, made(TINY, shared_store)
    Flaky.every = 20
    store = machine(monkeypatch, tmp_path, "a")
    run(TINY, store)
    other = machine(monkeypatch, tmp_path, "b")
    assert run(TINY, other)[1] == []
    for stage in plan:
        for path in local.path(stage.address).rglob("*"):
            if path.name in TRAINED:
                there = other.path(stage.address) / path.relative_to(local.path(stage.address))
                if path.suffix == ".jsonl":
                    continue
                assert there.read_bytes() == path.read_bytes(), path
    rows = pq.read_table(other.path(plan.evaluate.address) / "rows.parquet")
    assert rows.num_rows == 48
    assert not [name for name in Flaky.store if ".scratch" in name or ".parts" in name]


def test_a_training_goes_on_on_another_machine(
    shared_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(resources={"engine": "torch", "threads": 1, "checkpoint_every": 2})
    plan, store = chain(config), machine(monkeypatch, tmp_path, "a")
    for stage in plan.shared:
        InProcess(store)(plan, stage)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", dies_after(loop.train, 5))
        with pytest.raises(InterruptedError):
            InProcess(store)(plan, plan.align)
    other = machine(monkeypatch, tmp_path, "b")
    InProcess(other)(plan, plan.align)
    assert other.manifest(plan.align.address)["facts"]["resumed_at"] == [4]
    made(TINY, shared_store)
    found, expected = (s.path(plan.align.address) / "model/model.safetensors" for s in (other, shared_store))
    assert found.read_bytes() == expected.read_bytes()
    assert not [name for name in Flaky.store if ".scratch" in name]
    steps = (other.path(plan.align.address) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == list(range(6))


def dies_after(train: Any, steps: int) -> Any:
    """The training loop, whose machine goes after so many steps."""

    def dying(**arguments: Any) -> Any:
        def watch(values: dict[str, Any]) -> None:
            if values.get("step") == steps:
                raise InterruptedError("the machine is gone")

        return train(**{**arguments, "watch": watch})

    return dying
