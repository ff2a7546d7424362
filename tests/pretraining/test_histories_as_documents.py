"""A language model reads histories with its own tokenizer: titles alone count, and it learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from raypref.config.adaptation import Adaptation
from raypref.config.loading import load
from raypref.data.encoding import encode_titles
from raypref.models.backbone import load_tokenizer
from raypref.models.gguf_folder import convert
from raypref.pretraining.adaptation import adapt, titled
from tests.support.gguf_files import write_gguf
from tests.support.tiny_chain import changed

TEXTS = ["Given:\nthe 19 | Rating: 4\nthe the", "Of:\na b c | Rating: 5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    write_gguf(made / "made.gguf", "llama", "F32", context=4096)
    convert(made / "made.gguf", made / "folder")
    return made / "folder"


def test_the_titles_alone_count(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    lesson = titled(TEXTS, tokenizer)
    counted = [[int(i) for i, w in zip(ids, row) if w == 1] for ids, row in zip(lesson.ids, lesson.weights)]
    expected = [encode_titles(tokenizer, own) for own in (["the 19", "the the"], ["a b c"])]
    assert counted == [[i for ids in own for i in ids] for own in expected]
    assert set(lesson.weights.unique().tolist()) == {0.0, 1.0}
    for ids, text in zip(lesson.ids, TEXTS):
        said = tokenizer.decode([int(i) for i in ids if int(i) != tokenizer.pad_token_id])
        assert said == text + "\n"  # all of it is read


@pytest.mark.parametrize("rank", [None, 4])
def test_it_learns_and_keeps_its_tokenizer(folder: Path, rank: int | None) -> None:
    lora = None if rank is None else {"rank": rank, "dropout": 0.0}
    how = Adaptation.model_validate(
        {
            "tokenizer": "own", "counted": "titles", "lora": lora, "copy_steps": 0, "histories": 1.0, "steps": 30,
            "batch": 8, "longest": 6, "warmup": 3, "validation": 0, "learning_rate": 1e-2,
        }
    )  # fmt: skip
    config = changed(model={"kind": "pretrained", "path": str(folder), "dtype": "float32", "lora": None})
    model, tokenizer, log = adapt(config, how, log_every=10)
    assert log[-1]["loss"] < log[0]["loss"] - 0.2
    assert tokenizer.get_vocab() == load_tokenizer(folder).get_vocab()
    assert not any("lora" in name for name, _ in model.named_parameters())  # merged
    assert torch.isfinite(model(torch.tensor([[5, 6]])).logits).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="take tokenizer own"):
        Adaptation.model_validate({"lora": {"rank": 4}})
    assert load("smollm2-histories")[0].model.kind == "adapted"
