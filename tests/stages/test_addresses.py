"""Addresses: what changes them, and what doesn't."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raypref.config import RunConfig
from raypref.config.loading import override
from raypref.config.model import ScratchModel
from raypref.errors import UserError
from raypref.models import backbone
from raypref.stages.chain import chain
from raypref.stages.stage import Chain
from tests.support.tiny_chain import TINY, changed

STAGES = ("prepare", "tokenize", "sft", "evaluate_sft", "reference", "align", "evaluate")


def keys(plan: Chain) -> dict[str, str]:
    return {name: getattr(plan, name).address.key for name in STAGES}


def moved(config: RunConfig, base: RunConfig = TINY) -> set[str]:
    """Stages whose address differs."""
    before, after = keys(chain(base)), keys(chain(config))
    return {name for name in STAGES if before[name] != after[name]}


FROM_SFT = {"sft", "evaluate_sft", "reference", "align", "evaluate"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"align__objective__lambda": 0.5}, {"align", "evaluate"}),
        ({"align__seed": 1}, {"align", "evaluate"}),
        ({"align__negatives": 2}, {"align", "evaluate"}),
        ({"sft__learning_rate": 1e-4}, FROM_SFT),
        ({"model__hidden_size": 64}, FROM_SFT),
        ({"model__vocabulary": 500}, FROM_SFT | {"tokenize"}),
        ({"prompt__ratings": False}, FROM_SFT | {"tokenize"}),
        ({"data__seed": 1}, set(STAGES)),
        ({"data__source__users": 61}, set(STAGES)),
        ({"evaluation__max_examples": 10}, {"evaluate_sft", "evaluate"}),
        ({"evaluation__batch": 3}, set()),
        ({"name": "another"}, set()),
        ({"resources__workers": 2}, set()),
        ({"resources": {"engine": "deepspeed", "zero_stage": 3, "micro_batch": 2, "threads": 2}}, set()),
    ],
)
def test_a_change_moves_what_depends_on_it(settings: dict[str, Any], expected: set[str]) -> None:
    assert moved(changed(**settings)) == expected


def test_addresses_depend_on_content_alone() -> None:
    assert keys(chain(TINY)) == keys(chain(RunConfig.model_validate(TINY.model_dump(by_alias=True))))
    assert str(chain(TINY).prepare.address).startswith("prepare/t-")
    assert str(chain(TINY).evaluate_sft.address).startswith("evaluate/t-sft-")


def csv_config(path: Path) -> RunConfig:
    return override(TINY, {"data.source": {"kind": "csv", "path": str(path)}}, "test")


def test_a_source_counts_by_its_content_not_its_place(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,item,title,rating,timestamp\n" + "".join(f"u,{i},t{i},4,{i}\n" for i in range(9)))
    elsewhere = tmp_path / "deep/er"
    elsewhere.mkdir(parents=True)
    shutil.copy(file, elsewhere / "log.csv")
    assert moved(csv_config(elsewhere / "log.csv"), csv_config(file)) == set()
    before = csv_config(file)
    old = keys(chain(before))
    file.write_text(file.read_text().replace("t8,4", "t8,5"))
    new = keys(chain(before))
    assert all(old[name] != new[name] for name in STAGES)


def test_a_source_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        chain(csv_config(tmp_path / "nowhere.csv"))
    assert "nowhere.csv" in str(caught.value)
    assert caught.value.hint


def test_a_model_folder_counts_by_its_content(tmp_path: Path) -> None:
    tokenizer = backbone.train_tokenizer(["a title\n"], 300)
    small = ScratchModel(hidden_size=32, layers=1, heads=2, key_value_heads=2, intermediate_size=48, vocabulary=300)

    def folder(name: str, seed: int) -> RunConfig:
        backbone.save(backbone.build(small.model_copy(update={"seed": seed}), tokenizer), tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return override(TINY, {"model": {"kind": "pretrained", "path": str(tmp_path / name)}}, "test")

    a, same, other = folder("a", 0), folder("b", 0), folder("c", 1)
    assert moved(same, a) == set()
    assert moved(other, a) >= FROM_SFT
    (tmp_path / "a/model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        chain(a)
