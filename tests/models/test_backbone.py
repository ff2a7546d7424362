"""Models built, saved, restored; tokenizers; folders that can't be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM

from raypref.config.model import LoraConfig, PretrainedModel, ScratchModel
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.folders import check_model
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer

TITLES = ["The Quiet River", "Harbour of Light", "Ünder the Moön", "river", "Steel, and Ash (1999)"]
TEXTS = [f"Given the user's history:\n{t}\n{u} | Rating: 4\nAnswer:\n" for t in TITLES for u in TITLES]
TOKENIZER = backbone.train_tokenizer(TEXTS, 400)
SMALL = ScratchModel(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=48, vocabulary=400)
BATCH = title_batch([[5, 6, 7], [8, 9]], [[[10, 1], [11, 12, 1]]] * 2, 2)


def scores(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return TitleScorer(model.eval())(BATCH)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model as training might leave it: trained weights changed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(TITLES) | st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1), min_size=2)
)
def test_a_title_has_the_same_tokens_in_the_prompt_and_as_the_answer(titles: list[str]) -> None:
    newline = TOKENIZER("\n", add_special_tokens=False)["input_ids"]
    assert len(newline) == 1
    apart: list[int] = []
    for title in titles:
        ids = TOKENIZER(title, add_special_tokens=False)["input_ids"]
        assert newline[0] not in ids
        apart += [*ids, *newline]
    assert TOKENIZER("".join(f"{title}\n" for title in titles), add_special_tokens=False)["input_ids"] == apart


def test_a_newline_is_never_merged_even_where_texts_are_full_of_them() -> None:
    tokenizer = backbone.train_tokenizer(["a\n\nb\n\n", "Answer:\n"] * 50, 300)
    assert len(tokenizer("a\n\nb", add_special_tokens=False)["input_ids"]) == 4
    assert tokenizer.decode(tokenizer("Ünder\n")["input_ids"]) == "Ünder\n"


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
def test_save_and_restore_give_the_same_model(tmp_path: Path, lora: LoraConfig | None) -> None:
    config = SMALL.model_copy(update={"lora": lora})
    model = backbone.build(config, TOKENIZER)
    before = scores(model)
    after = scores(moved(model))
    assert not torch.allclose(before, after)
    backbone.save(model, tmp_path)
    restored = backbone.restore(config, TOKENIZER, tmp_path)
    assert torch.equal(scores(restored), after)
    trained = {n for n, p in restored.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}
    assert bool(lora) == all("lora_" in name for name in trained)
    assert (tmp_path / ("adapter_model.safetensors" if lora else "model.safetensors")).is_file()


def test_the_seed_decides_the_weights() -> None:
    model = backbone.build(SMALL, TOKENIZER)
    assert torch.equal(scores(model), scores(backbone.build(SMALL, TOKENIZER)))
    other = backbone.build(SMALL.model_copy(update={"seed": 1}), TOKENIZER)
    assert not torch.allclose(scores(model), scores(other))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder as one downloads it."""
    backbone.save(backbone.build(SMALL, TOKENIZER), tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_with_its_weights(folder: Path) -> None:
    config = PretrainedModel(path=str(folder), lora=None)
    tokenizer = backbone.load_tokenizer(folder)
    model = backbone.build(config, tokenizer)
    assert next(model.parameters()).dtype == torch.float32  # trained weights, whatever the config says of frozen ones
    assert torch.equal(scores(model), scores(backbone.build(SMALL, TOKENIZER)))
    assert tokenizer("river\n")["input_ids"] == TOKENIZER("river\n")["input_ids"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_weights_are_bfloat16_and_the_adapter_learns(folder: Path, checkpointing: bool) -> None:
    config = PretrainedModel(path=str(folder), lora=LoraConfig(dropout=0.0), gradient_checkpointing=checkpointing)
    model = backbone.build(config, TOKENIZER).train()
    dtypes = {("lora_" in n, p.dtype) for n, p in model.named_parameters()}
    assert dtypes == {(False, torch.bfloat16), (True, torch.float32)}
    with torch.autocast("cpu", torch.bfloat16):
        TitleScorer(model)(BATCH).sum().backward()
    gradients = [p.grad for n, p in model.named_parameters() if "lora_B" in n]
    assert gradients
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_model_without_sdpa_is_loaded_all_the_same(tmp_path: Path) -> None:
    gemma = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                     num_key_value_heads=1, head_dim=16)
    )  # fmt: skip
    gemma.save_pretrained(tmp_path)
    loaded = backbone.build(PretrainedModel(path=str(tmp_path), lora=None), TOKENIZER)
    assert torch.equal(scores(loaded), scores(gemma))


@pytest.mark.parametrize(
    ("missing", "what"),
    [("config.json", "config.json is missing"), ("model.safetensors", r"no weights \(\*\.safetensors\)")],
)
def test_a_folder_without_its_files_is_refused(folder: Path, missing: str, what: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=what) as caught:
        check_model(PretrainedModel(path=str(folder)))
    assert caught.value.where == str(folder)
    assert caught.value.hint


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        check_model(PretrainedModel(path=str(tmp_path / "nowhere")))


def test_weights_that_are_no_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not these")
    with pytest.raises(UserError, match="the model can't be loaded") as caught:
        backbone.build(PretrainedModel(path=str(folder), lora=None), TOKENIZER)
    assert str(folder) in caught.value.where


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="the model can't be loaded"):
        backbone.build(PretrainedModel(path=str(folder), lora=None), TOKENIZER)


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="the tokenizer can't be loaded"):
        backbone.load_tokenizer(folder)


def test_a_hub_name_that_is_out_of_reach_is_refused() -> None:
    with pytest.raises(UserError, match="the tokenizer can't be loaded") as caught:
        backbone.load_tokenizer("nobody/no-such-model")
    assert "no-such-model" in caught.value.where


def test_a_tokenizer_without_pad_token_pads_with_its_end(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}))
    assert backbone.load_tokenizer(folder).pad_token == backbone.END


def test_a_folder_that_lacks_some_weights_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights are missing: model\.layers\.1\.mlp\.up_proj\.weight"):
        backbone.build(PretrainedModel(path=str(folder), lora=None), TOKENIZER)
