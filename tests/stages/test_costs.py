"""What a preset's language model costs is told where the model is not: parameters, operations, memory, positions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raypref import expectation
from raypref.config.loading import load, override, presets
from raypref.config.model import PretrainedModel
from raypref.expectation import GPU_USED, cost_line, days
from raypref.models import backbone
from raypref.models.shapes import SHAPES, parameters_of
from raypref.stages.chain import chain
from raypref.stages.needs import memory_line
from raypref.stages.stage import AlignedChain
from raypref.storage.store import Store


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_as_many_parameters_as_the_model_built_from_it(name: str) -> None:
    shape = dict(SHAPES[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(shape.pop("model_type"), **shape))
    met, whole = parameters_of(SHAPES[name])
    matrices = {n: p.numel() for n, p in model.named_parameters() if p.dim() == 2}
    assert whole == sum(matrices.values())
    assert met == sum(count for n, count in matrices.items() if "layers" in n)
    assert backbone.positions(PretrainedModel(path=name)) == shape["max_position_embeddings"]


@pytest.mark.parametrize("preset", presets())
def test_every_preset_is_told_of_without_its_model(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hub can be asked here: a preset whose model is not known by its shape would fail."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = override(load(preset)[0], {"data.source": {"kind": "generated", "users": 60, "items": 80}}, "test")
    run, store = chain(config), Store(tmp_path)
    line = cost_line(run, store)
    if config.system == "baseline":
        assert line == ""
        return
    assert "on one GPU" in line
    if preset == "smollm2":  # the others' take the same way, and longer
        assert isinstance(run, AlignedChain)
        assert "GB at the peak" in memory_line(run, store)


def test_operations_by_hand(tmp_path: Path) -> None:
    """One step of SFT and no evaluation to speak of: 2 operations a weight and token, three passes, two under LoRA."""
    changes = {
        "system": "sft", "data.source": {"kind": "generated", "users": 60, "items": 80}, "model.path": "smollm2-135m",
        "model.kind": "pretrained", "sft.max_steps": 1, "sft.global_batch": 16, "sft.validations": 0,
        "evaluation.splits": [], "data.max_history": 5, "prompt.max_tokens": 1024,
    }  # fmt: skip
    config = override(load("tiny")[0], changes, "test")
    tokens = 16 * (80 + 9 * 5 + (6 + 2) * 20 + 6)
    for lora, passes in ((None, 3), ({"rank": 4}, 2)):
        run = chain(override(config, {"model.lora": lora}, "test"))
        needed = 2 * 106_168_320 * passes * tokens
        assert f"needs {needed:.2g} operations" in cost_line(run, Store(tmp_path))
        assert days(needed / GPU_USED) in cost_line(run, Store(tmp_path))


def test_days() -> None:
    assert [days(s) for s in (30, 3600 * 5, 86_400 * 4.2)] == ["30 s", "5.0 h", "4.2 days"]


def test_cores_that_this_process_leaves_to_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a job of Ray's a product runs on one core; its trials use all."""
    monkeypatch.setattr(expectation, "usable_cores", lambda: 8)
    found = {}
    for told in ("8", "1"):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        found[told] = max(expectation.speed.__wrapped__() for _ in range(5))
    assert 3 < found["1"] / found["8"] < 20  # eight times, but for the clock's noise
