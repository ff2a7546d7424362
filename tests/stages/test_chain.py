"""The chain in one process: what is computed, when it is not computed again, and what identity promises."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raypref.config import RunConfig
from raypref.data.columns import shard_path
from raypref.errors import UserError
from raypref.evaluation.metrics import means
from raypref.evaluation.rows import ROWS
from raypref.experiment import run_chain
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import Chain, Stage
from raypref.storage.store import MANIFEST, Store
from tests.support.tiny_chain import TINY, changed, run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain]:
    store = Store(tmp_path_factory.mktemp("results"))
    plan, worked = run(TINY, store)
    assert worked == ["prepare", "tokenize", "sft", "evaluate", "reference", "align", "evaluate"]
    return store, plan


def test_it_runs_end_to_end(done: tuple[Store, Chain]) -> None:
    store, plan = done
    facts = store.manifest(plan.evaluate.address)["facts"]
    rows = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet")
    assert rows.schema.equals(ROWS)
    assert rows.num_rows == 48
    for split in ("validation", "test"):
        own = rows.filter(np.array(rows["split"]) == split)
        assert facts[split] == pytest.approx(means(own) | {"examples": 24}, nan_ok=True)
        assert set(facts[split]) >= {"generated_hr@1", "valid_ratio", "exact_hr@1", "exact_hr@5", "exact_ndcg@5"}
    trained = store.manifest(plan.align.address)
    assert trained["facts"]["steps"] == 6
    assert trained["inputs"]["sft"] == str(plan.sft.address)
    assert trained["provenance"]["versions"]["torch"]
    assert not list((store.root / ".scratch").glob("*"))
    assert not list(store.root.rglob(".tmp-*"))


def test_stages_that_others_have_run_need_no_workers(done: tuple[Store, Chain]) -> None:
    """A benchmark's SFT model has been trained and asked before its own trial begins: its aligned methods need it."""
    from raypref.cluster.train_group import fit

    store, plan = done
    facts = fit(plan, [plan.sft, plan.evaluate_sft], store, name="sft")  # without Ray: it would start it
    assert facts == {kind: store.manifest(stage.address)["facts"] for kind, stage in
                     (("sft", plan.sft), ("evaluate", plan.evaluate_sft))}  # fmt: skip


def test_the_reference_is_the_sft_model(done: tuple[Store, Chain]) -> None:
    """Before the first step policy and reference are one model: sdpo's loss is log(1 + K)."""
    store, _ = done
    config = changed(align={"objective": {"name": "sdpo"}, "learning_rate": 1e-9, "max_steps": 1, "negatives": 4})
    plan, _ = run(config, store)
    path = store.path(plan.align.address) / "metrics.jsonl"
    assert json.loads(path.read_text().splitlines()[0])["loss"] == pytest.approx(np.log(5), rel=1e-5)


def test_a_second_run_computes_nothing(done: tuple[Store, Chain]) -> None:
    store, plan = done
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    said: list[str] = []

    def never(*_: object) -> None:
        raise AssertionError("there was nothing to do")

    run_chain(plan, list(plan), store, never, said.append)
    assert run(TINY, store)[1] == []
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before
    assert len(said) == 7
    assert all("done before" in line for line in said)


def test_another_lambda_aligns_and_evaluates_only(done: tuple[Store, Chain]) -> None:
    store, plan = done
    other, worked = run(changed(align__objective__lambda=0.5), store)
    assert worked == ["align", "evaluate"]
    one, two = ((store.path(p.align.address) / "model/model.safetensors").read_bytes() for p in (plan, other))
    assert one != two


def test_recpo_without_margin_is_sdpo_bit_for_bit(done: tuple[Store, Chain]) -> None:
    store, plan = done
    sdpo, _ = run(changed(align__objective={"name": "sdpo"}), store)
    recpo, _ = run(changed(align__objective={"name": "recpo", "lambda": 0.0}), store)
    assert sdpo.align.address != recpo.align.address
    found = [(store.path(p.align.address) / "model/model.safetensors").read_bytes() for p in (sdpo, recpo, plan)]
    assert found[0] == found[1]
    assert found[0] != found[2]  # the margin of lambda = 2 does change it
    tables = [pq.read_table(store.path(p.evaluate.address) / "rows.parquet") for p in (sdpo, recpo)]
    assert tables[0].equals(tables[1])


def test_the_same_config_gives_the_same_bytes_elsewhere(done: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = done
    elsewhere = Store(tmp_path)
    run(TINY, elsewhere)
    for stage in plan:
        for path in sorted(store.path(stage.address).rglob("*")):
            if path.suffix in (".safetensors", ".parquet"):
                copy = elsewhere.root / path.relative_to(store.root)
                assert copy.read_bytes() == path.read_bytes(), path


def test_a_stage_that_failed_is_done_again(
    done: tuple[Store, Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    plan = chain(TINY)
    with monkeypatch.context() as patch:
        patch.setattr("raypref.stages.prepare.write_shard", fails_on_call(2))
        with pytest.raises(RuntimeError, match="struck"):
            run(TINY, store)
    assert not store.done(plan.prepare.address)
    assert not store.path(plan.prepare.address).exists()
    InProcess(store)(plan, plan.prepare)
    assert store.done(plan.prepare.address)


def fails_on_call(number: int) -> object:
    calls = 0

    def body(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise RuntimeError("struck")

    return body


def test_a_corrupted_shard_is_named(done: tuple[Store, Chain], tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = chain(TINY)
    InProcess(store)(plan, plan.prepare)
    shard = shard_path(store.path(plan.prepare.address), "train", 0)
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(UserError, match="a shard can't be read") as caught:
        InProcess(store)(plan, plan.tokenize)
    assert caught.value.where == str(shard)
    assert "delete" in caught.value.hint
    assert not store.path(plan.tokenize.address).exists()


def flip_a_bit(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 1
    path.write_bytes(content)


def test_what_a_disk_garbles_is_named_and_made_again(done: tuple[Store, Chain], tmp_path: Path) -> None:
    """A Parquet block, a model, a manifest: the message names it; with its folder deleted all becomes as it was."""
    shutil.copytree(done[0].root, tmp_path, dirs_exist_ok=True)
    store, plan = Store(tmp_path), done[1]
    assert plan.reference is not None
    scored = shard_path(store.path(plan.reference.address), "train", 0)
    weights = store.path(plan.sft.address) / "model/model.safetensors"
    manifest = store.path(plan.prepare.address) / MANIFEST
    found = store.path(plan.evaluate.address) / "rows.parquet"
    expected = {path: path.read_bytes() for path in (scored, weights, found)}
    harms: list[tuple[Path, Callable[[], Any], Stage, str]] = [
        (scored, lambda: flip_a_bit(scored, 0.2), plan.reference, "CRC checksum verification failed"),
        (weights, lambda: os.truncate(weights, 5000), plan.sft, "a trained model can't be read"),
        (manifest, lambda: os.truncate(manifest, 20), plan.prepare, "a stage's manifest can't be read"),
    ]
    for path, harm, stage, said in harms:
        shutil.rmtree(store.path(plan.align.address))
        harm()
        with pytest.raises(UserError, match=said) as refused:
            run_chain(plan, list(plan), store, InProcess(store), print)
        assert path.is_relative_to(refused.value.where)
        assert "delete" in refused.value.hint
        shutil.rmtree(store.path(stage.address))
        run_chain(plan, list(plan), store, InProcess(store), print)
    assert {path: path.read_bytes() for path in expected} == expected


def test_objectives_without_reference_need_none(done: tuple[Store, Chain]) -> None:
    plan = chain(changed(align__objective={"name": "simpo"}))
    assert plan.reference is None
    assert "reference" not in plan.align.inputs
    assert [stage.kind for stage in plan] == ["prepare", "tokenize", "sft", "evaluate", "align", "evaluate"]
    assert isinstance(plan.config, RunConfig)
