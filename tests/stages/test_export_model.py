"""Exported models: plain transformers and peft give the logits and answers that raypref's own loading gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from raypref.cli import COMMANDS
from raypref.commands.export import Export, export
from raypref.commands.recommendation import answer, of_user
from raypref.config.loading import override
from raypref.errors import UserError
from raypref.models.folders import SHIPPED_FOLDER, TRAINED_ON
from raypref.stages.chain import chain
from raypref.stages.identity import training_data
from raypref.stages.policy import load_policy
from raypref.stages.prepare import titles_of
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from tests.support.shared_store import made
from tests.support.tiny_chain import TINY, run

PROMPT = "Crimson Harbor | Rating: 5\nAnswer:\n"
LORA = {
    "model": {"kind": "pretrained", "path": "raypref-tiny", "lora": {"rank": 2, "target_modules": "all-linear"}},
    "sft.max_steps": 2,
    "data.candidates.eval_random": 19,  # as many as raypref-tiny was trained on: it still answers with a candidate
    "sft.learning_rate": 1e-4,
    "align.max_steps": 2,
    "align.learning_rate": 1e-4,
}


@pytest.fixture(scope="module")
def whole(shared_store: Store) -> tuple[Store, Chain]:
    return shared_store, made(TINY, shared_store)


@pytest.fixture(scope="module")
def adapted(shared_store: Store) -> tuple[Store, Chain]:
    return shared_store, made(override(TINY, LORA, "test"), shared_store)


@torch.no_grad()
def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(torch.tensor([tokenizer(PROMPT)["input_ids"]])).logits
    return found


def own_logits(store: Store, plan: Chain) -> torch.Tensor:
    paths = (store.path(stage.address) for stage in (plan.tokenize, plan.align))
    return logits(*load_policy(plan.config, *paths))


def written(store: Store, plan: Chain, to: Path, **options: Any) -> Path:
    return export(Export(store.path(plan.align.address), to, **options), Console(quiet=True))


def test_plain_transformers_load_it(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    folder = written(*whole, tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    torch.testing.assert_close(logits(model, tokenizer), own_logits(*whole), atol=1e-5, rtol=1e-5)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == tokenizer.eos_token_id
    assert not list(tmp_path.glob(".*"))


def test_a_run_of_other_data_refuses_an_exported_model(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    folder = written(*whole, tmp_path / "model")
    assert json.loads((folder / TRAINED_ON).read_text()) == training_data(whole[1].config)
    again = override(whole[1].config, {"model": {"kind": "pretrained", "path": str(folder), "lora": None}}, "test")
    assert chain(again).config == again
    with pytest.raises(UserError, match=r"trained on other data \(differing in k_core\)"):
        chain(override(again, {"data.k_core": again.data.k_core + 1}, "test"))


def test_an_adapter_is_written_alone_or_merged(adapted: tuple[Store, Chain], tmp_path: Path) -> None:
    from peft import PeftModel

    alone = written(*adapted, tmp_path / "adapter", adapter=True)
    assert not (alone / "model.safetensors").exists()
    assert json.loads((alone / "adapter_config.json").read_text())["base_model_name_or_path"] == "raypref-tiny"
    assert 'AutoModelForCausalLM.from_pretrained("raypref-tiny")' in (alone / "README.md").read_text()
    merged = written(*adapted, tmp_path / "merged", merge=True)
    assert not (merged / "adapter_config.json").exists()
    tokenizer, expected = AutoTokenizer.from_pretrained(merged), own_logits(*adapted)
    plain = AutoModelForCausalLM.from_pretrained(SHIPPED_FOLDER)
    untrained = logits(plain, tokenizer)
    assert not torch.allclose(untrained, expected, atol=1e-4)
    for model in (AutoModelForCausalLM.from_pretrained(merged), PeftModel.from_pretrained(plain, alone)):
        difference = (logits(model, tokenizer) - expected).abs().max()
        assert difference <= 1e-5 * expected.abs().max()  # merging rounds


def test_an_exported_model_answers_as_recommend_does(adapted: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = adapted
    folder = written(store, plan, tmp_path / "merged", merge=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prepared = store.path(plan.prepare.address)
    titles = titles_of(prepared)
    ids = pq.read_table(prepared / "users.parquet")["user_id"].to_pylist()
    evaluated = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet", columns=["user"])["user"]
    for user in sorted(set(evaluated.to_pylist()))[:3]:
        question = of_user(prepared, ids[user])
        expected = answer(plan, store, question)
        prompt = tokenizer(expected.prompt, return_tensors="pt")
        written_on = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
        assert tokenizer.decode(written_on, skip_special_tokens=True).splitlines()[0] == expected.said
        assert expected.said in [titles[item] for item in question.candidates]


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
    with pytest.raises(UserError, match="there is no adapter"):
        written(*whole, tmp_path / "model", adapter=True)
    with pytest.raises(UserError, match="give one of them"):
        written(*adapted, tmp_path / "model", merge=True, adapter=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


@pytest.mark.parametrize("form", ["merge", "adapter"])
def test_an_adapter_of_a_nameless_base_asks_for_its_name(
    adapted: tuple[Store, Chain], tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(SHIPPED_FOLDER, other, ignore=shutil.ignore_patterns("model.safetensors"))
    monkeypatch.setattr("raypref.models.folders.SHIPPED_FOLDER", other)  # the run's base is then not what is shipped
    with pytest.raises(UserError, match="name it by --base"):
        written(*adapted, tmp_path / "model", **{form: True})
    assert not (tmp_path / "model").exists()


def test_the_command(whole: tuple[Store, Chain], tmp_path: Path) -> None:
    store, plan = whole
    assert COMMANDS["export"]([str(store.path(plan.sft.address)), "--to", str(tmp_path / "sft")]) == 0
    assert "supervised fine-tuning" in (tmp_path / "sft" / "README.md").read_text()


TIED = (["q_proj", "lm_head"], ["q_proj", "embed_tokens"])


@pytest.mark.parametrize("targets", TIED, ids="+".join)
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`")
def test_an_adapter_on_a_tied_head_is_merged_into_a_head_of_its_own(targets: list[str], tmp_path: Path) -> None:
    from peft import PeftModel

    lora = {"model": {"kind": "pretrained", "path": "raypref-tiny", "lora": {"rank": 2, "target_modules": targets}}}
    strong = {"sft.learning_rate": 1e-2, "align.learning_rate": 1e-2}
    store = Store(tmp_path / "root")
    plan = run(override(TINY, LORA | lora | strong, "test"), store)[0]
    own, folder = own_logits(store, plan), written(store, plan, tmp_path / "merged", merge=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    merged = logits(AutoModelForCausalLM.from_pretrained(folder), tokenizer)
    assert (merged - own).abs().max() <= 1e-5 * own.abs().max()
    base = AutoModelForCausalLM.from_pretrained(SHIPPED_FOLDER)
    alone = PeftModel.from_pretrained(base, written(store, plan, tmp_path / "alone", adapter=True))
    assert torch.equal(logits(alone, tokenizer), own)
