"""Exported models: plain transformers and peft give the logits that raypref's own loading gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_chain import TINY, run
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from raypref.cli import COMMANDS
from raypref.commands.export import Export, export
from raypref.config.loading import override
from raypref.errors import UserError
from raypref.stages import bodies
from raypref.stages.chain import Chain
from raypref.store import Store

PROMPT = "Crimson Harbor | Rating: 5\nAnswer:\n"
LORA = {
    "model": {"kind": "pretrained", "path": "raypref-tiny", "lora": {"rank": 2, "target_modules": "all-linear"}},
    "sft.max_steps": 2,
    "align.max_steps": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain]:
    store = Store(tmp_path_factory.mktemp("whole"))
    return store, run(TINY, store)[0]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain]:
    store = Store(tmp_path_factory.mktemp("adapted"))
    return store, run(override(TINY, LORA, "test"), store)[0]


@torch.no_grad()
def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(torch.tensor([tokenizer(PROMPT)["input_ids"]])).logits
    return found


def own_logits(store: Store, plan: Chain) -> torch.Tensor:
    paths = (store.path(stage.address) for stage in (plan.tokenize, plan.align))
    return logits(*bodies.load_policy(plan.config, *paths))


def written(store: Store, plan: Chain, to: Path, **options: Any) -> Path:
    return export(Export(store.path(plan.align.address), to, **options), Console(quiet=True))


def test_plain_transformers_load_it(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    folder = written(*whole, tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    torch.testing.assert_close(logits(model, tokenizer), own_logits(*whole), atol=1e-5, rtol=1e-5)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == tokenizer.eos_token_id
    assert not list(tmp_path.glob(".*"))


def test_an_adapter_is_written_alone_or_merged(adapted: tuple[Store, Chain], tmp_path: Path) -> None:
    from peft import PeftModel

    base = str(Path(bodies.__file__).parents[1] / "base")
    alone = written(*adapted, tmp_path / "adapter")
    assert not (alone / "model.safetensors").exists()
    merged = written(*adapted, tmp_path / "merged", merge=True, base=base)
    assert not (merged / "adapter_config.json").exists()
    tokenizer, expected = AutoTokenizer.from_pretrained(merged), own_logits(*adapted)
    plain = AutoModelForCausalLM.from_pretrained(base)
    untrained = logits(plain, tokenizer)
    assert not torch.allclose(untrained, expected, atol=1e-4)
    for model in (AutoModelForCausalLM.from_pretrained(merged), PeftModel.from_pretrained(plain, alone)):
        torch.testing.assert_close(logits(model, tokenizer), expected, atol=1e-5, rtol=1e-5)


def test_the_card_says_where_the_numbers_come_from(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = whole
    folder = export(Export(store.path(plan.evaluate.address), tmp_path / "model"), Console(quiet=True))
    card = (folder / "README.md").read_text()
    facts = store.manifest(plan.evaluate.address)["facts"]["test"]
    assert f"| test | 24 | {facts['exact_hr@1']:.3f} |" in card
    assert str(plan.align.address) in card
    assert "aligned by recpo" in card
    assert '"lambda": 2.0' in card
    assert "licence" in card
    assert "generated: " in card


def test_mistakes(whole: tuple[Store, Chain], adapted: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = whole
    with pytest.raises(UserError, match="no finished stage"):
        export(Export(tmp_path / "nothing", tmp_path / "model"), Console(quiet=True))
    with pytest.raises(UserError, match="no model lies there"):
        export(Export(store.path(plan.prepare.address), tmp_path / "model"), Console(quiet=True))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="files already"):
        written(*whole, tmp_path / "full")
    with pytest.raises(UserError, match="name it by --base"):
        written(*adapted, tmp_path / "model", merge=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_command(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = whole
    assert COMMANDS["export"]([str(store.path(plan.sft.address)), "--to", str(tmp_path / "sft")]) == 0
    assert "supervised fine-tuning" in (tmp_path / "sft" / "README.md").read_text()
