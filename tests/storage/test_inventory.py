"""What lies in a store, who refers to it, and what prune may take: on a disk and in S3 as moto's server plays it."""

from __future__ import annotations

import json
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raypref.commands.store import COMMANDS, size_text
from raypref.errors import UserError
from raypref.stages.policy import load_policy
from raypref.storage.bucket import Bucket
from raypref.storage.inventory import drop_model, outputs, referrers, remove, unused
from raypref.storage.lease import leased
from raypref.storage.store import MIRROR, Address, Store
from tests.support.tiny_chain import TINY


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("moto")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    if request.param == "disk":
        yield Store(tmp_path / "root")
        return
    server = request.getfixturevalue("s3_server")
    own = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (own | {"AWS_ENDPOINT_URL": server, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket{abs(hash(tmp_path))}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(urllib.request.Request(f"{server}/{bucket}", method="PUT"), timeout=10)
    Bucket.at.cache_clear()
    yield Store(f"s3://{bucket}/root")
    Bucket.at.cache_clear()


def output(store: Store, stage: str, number: int, *inputs: Address, size: int = 1000) -> Address:
    """A finished stage's output with a model of so many bytes."""
    address = Address(stage, "t", f"{number:012x}")
    with store.writing(address, {"n": number}, {a.stage: str(a) for a in inputs}) as (folder, facts):
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"0" * size)
        (folder / "metrics.jsonl").write_text("{}\n")
        facts["steps"] = 1
    return address


def sweep(store: Store, name: str, *evaluations: Address, place: str = "sweeps") -> None:
    """A sweep that refers to evaluations, by a record of each."""
    folder = store.root / place / name
    for evaluation in evaluations:
        path = folder / "trials" / f"{evaluation.key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"evaluate": str(evaluation), "status": "done"}))
    store.send(folder)


@pytest.fixture
def shared(store: Store) -> dict[str, Address]:
    """Three sweeps that share stages, and a chain that nobody refers to any more."""
    made = {"prepare": output(store, "prepare", 1)}
    made["sft"] = output(store, "sft", 2, made["prepare"])
    for i in range(4):
        made[f"align{i}"] = output(store, "align", 10 + i, made["sft"])
        made[f"evaluate{i}"] = output(store, "evaluate", 20 + i, made["prepare"], made[f"align{i}"])
    sweep(store, "a", made["evaluate0"])
    sweep(store, "b", made["evaluate0"], made["evaluate1"])
    sweep(store, "c", made["evaluate2"], place="runs")
    return made


def test_who_refers_to_what(store: Store, shared: dict[str, Address]) -> None:
    found = outputs(store)
    assert set(found) == {str(address) for address in shared.values()}
    users = referrers(store, found)
    assert users[str(shared["sft"])] == {"sweeps/a", "sweeps/b", "runs/c"}  # through what was made from it
    assert users[str(shared["align0"])] == {"sweeps/a", "sweeps/b"}
    assert users[str(shared["align3"])] == set()
    assert found[str(shared["align0"])].inputs == (str(shared["sft"]),)
    assert found[str(shared["align0"])].size > 1000


def test_prune_says_what_it_frees_and_leaves_what_is_referred_to(
    store: Store, shared: dict[str, Address], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: each.size for name, each in outputs(store).items()}
    COMMANDS["prune"](root=store.location)
    said = capsys.readouterr().out
    assert "nothing is deleted" in said
    assert set(outputs(store)) == set(before)
    gone = {str(shared["align3"]), str(shared["evaluate3"])}
    assert all(address in said for address in gone)
    COMMANDS["prune"](root=store.location, yes=True, dry_run=True)
    assert set(outputs(store)) == set(before)
    COMMANDS["prune"](root=store.location, yes=True)
    said = capsys.readouterr().out
    left = outputs(store)
    assert set(before) - set(left) == gone
    freed = sum(before[name] for name in gone)
    assert f"deleted 2 outputs, {size_text(freed)} freed" in said
    assert sum(each.size for each in left.values()) == sum(before.values()) - freed
    assert not (store.root / str(shared["align3"])).exists()
    assert unused(store) == []


def test_what_goes_first_depends_on_the_rest(store: Store) -> None:
    first = output(store, "prepare", 1)
    second = output(store, "sft", 2, first)
    output(store, "align", 3, second)
    assert [each.address.split("/")[0] for each in unused(store)] == ["align", "sft", "prepare"]


def test_what_is_being_made_and_what_it_is_made_from_stay(store: Store, shared: dict[str, Address]) -> None:
    with leased(store, Address("align", "t", "f" * 12)):  # not there yet
        pass
    assert {each.address for each in unused(store)} == {str(shared["align3"]), str(shared["evaluate3"])}
    path = store.root / "sweeps" / "d" / "sweep.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"stages": [str(shared["align3"])]}))  # a sweep that has just begun needs it
    store.send(path)
    assert {each.address for each in unused(store)} == {str(shared["evaluate3"])}
    assert unused(store, older_than_s=3600) == []


def test_a_held_output_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    address = output(store, "align", 1)
    (store.root / ".leases").mkdir()
    lease = store.root / ".leases" / str(address).replace("/", "-")
    lease.write_text(json.dumps({"owner": "me", "host": socket.gethostname(), "pid": os.getpid()}))
    assert unused(store) == []
    os.utime(lease, (0, 0))  # its owner has not renewed it for years
    assert [each.address for each in unused(store)] == [str(address)]


def test_a_dropped_model_leaves_everything_else(store: Store, shared: dict[str, Address]) -> None:
    size = outputs(store)[str(shared["align0"])].size
    assert drop_model(store, str(shared["align0"])) == 1000
    assert drop_model(store, str(shared["align0"])) == 0
    assert store.done(shared["align0"])
    assert store.manifest(shared["align0"])["facts"] == {"steps": 1, "model_dropped": True}
    assert size - outputs(store)[str(shared["align0"])].size > 900
    assert (store.path(shared["align0"]) / "metrics.jsonl").read_text() == "{}\n"


def test_asking_for_a_dropped_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    address = output(store, "align", 1)
    drop_model(store, str(address))
    monkeypatch.setattr("raypref.models.backbone.load_tokenizer", lambda folder: None)
    with pytest.raises(UserError, match="was not kept"):
        load_policy(TINY, tmp_path, store.path(address))


def test_show_and_list(store: Store, shared: dict[str, Address], capsys: pytest.CaptureFixture[str]) -> None:
    COMMANDS["list"](root=store.location)
    said = capsys.readouterr().out
    assert "10 outputs" in said
    assert "nobody" in said
    COMMANDS["show"](shared["align1"].key, root=store.location)
    said = capsys.readouterr().out
    assert f"made from sft: {shared['sft']}" in said
    assert "used by sweeps/b" in said
    with pytest.raises(UserError, match="no output is called"):
        COMMANDS["show"]("nothing", root=store.location)


def test_removing_takes_the_manifest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    address = output(store, "align", 1)
    remove(store, [str(address)])
    assert not store.done(address)
    assert list((tmp_path / "align").iterdir()) == []
