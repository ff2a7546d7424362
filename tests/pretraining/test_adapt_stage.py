"""An adapted model is a stage of the chain: shared by what trains from it, true to its data, by its address alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raypref.config import RunConfig
from raypref.config.loading import override
from raypref.config.model import AdaptedModel, ScratchModel
from raypref.errors import UserError
from raypref.models import backbone
from raypref.stages import adapt
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store
from tests.support.tiny_chain import TINY

MODEL = {
    "kind": "adapted",
    "base": {"kind": "scratch", "hidden_size": 16, "layers": 1, "heads": 2, "key_value_heads": 2},
}
MODEL |= {"adapt": {"vocabulary": 400, "copy_steps": 1, "steps": 2, "batch": 4}}


def adapted(changes: dict[str, Any] | None = None) -> RunConfig:
    return override(TINY, {"model": MODEL, **(changes or {})}, "test")


def address(config: RunConfig) -> str:
    return next(str(stage.address) for stage in chain(config) if stage.kind == "adapt")


def test_its_address_follows_from_what_it_learns_from_and_how() -> None:
    own = address(adapted())
    assert address(adapted({"align.objective.lambda": 7.0, "sft.seed": 3, "model.seed": 1})) == own
    changes = {"model.adapt.steps": 3, "model.base.layers": 2, "data.seed": 5, "prompt.templates": 2}
    for key, value in changes.items():
        assert address(adapted({key: value})) != own, key


@pytest.mark.parametrize("system", ["aligned", "sft", "zero-shot", "tallrec", "llara"])
def test_everything_that_reads_the_model_comes_after_it(system: str) -> None:
    changed, run = chain(adapted({"system": system, "model.adapt.seed": 1})), chain(adapted({"system": system}))
    for before, after in zip(run, changed, strict=True):
        assert (before.address == after.address) == (before.kind in ("prepare", "expert")), before.kind


def test_a_run_makes_it_once_and_trains_from_it(tmp_path: Path) -> None:
    store, run = Store(tmp_path), chain(adapted({"system": "zero-shot"}))
    runner = InProcess(store)
    for stage in run:
        runner(run, stage)
    made = next(stage for stage in run if stage.kind == "adapt")
    folder = store.path(made.address)
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [3]
    ready = run.ready(store).config
    assert not isinstance(ready.model, (AdaptedModel, ScratchModel))
    tokenizer = backbone.load_tokenizer(store.path(run.evaluate.inputs["tokenize"].address) / "tokenizer")
    assert len(tokenizer) == len(backbone.load_tokenizer(folder / "model")) <= 400
    assert backbone.build(ready.backbone, tokenizer).config.hidden_size == 16
    other = chain(adapted({"system": "sft"}))
    assert not runner(other, next(stage for stage in other if stage.kind == "adapt"))


def test_data_that_changed_meanwhile_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run = Store(tmp_path), chain(adapted({"system": "zero-shot"}))
    prepare, made = run.prepare, next(stage for stage in run if stage.kind == "adapt")
    InProcess(store)(run, prepare)
    monkeypatch.setattr(adapt, "source_identity", lambda config: {"kind": "generated", "content": "other"})
    with pytest.raises(UserError, match="the data have changed since they were prepared"):
        InProcess(store)(run, made)
    assert not store.done(made.address)
