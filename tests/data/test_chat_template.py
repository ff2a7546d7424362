"""A chat model's template around the same prompt: whole, its tokens apart from message and title; else the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from raypref.commands.data import show
from raypref.config import RunConfig
from raypref.config.data import PromptConfig
from raypref.data.chat_template import chat_frame
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.errors import UserError
from raypref.models.backbone import load_tokenizer
from raypref.models.folders import SHIPPED_FOLDER
from raypref.models.gguf_folder import convert
from raypref.results.lineage import prompt_as_read
from raypref.stages.chain import chain
from raypref.stages.identity import chat_identity
from raypref.storage.location import Location
from raypref.storage.store import MANIFEST
from tests.support.gguf_files import TEMPLATE, write_gguf

PROMPT = "Analyze:\nthe 1995\nAnswer:\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template."""
    made = tmp_path_factory.mktemp("chat")
    write_gguf(made / "made.gguf", "llama", "Q8_0", template=TEMPLATE, context=4096)
    convert(made / "made.gguf", made / "folder")
    return made / "folder"


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder)


def test_the_prompt_is_the_users_message(tokenizer: PreTrainedTokenizerBase) -> None:
    (ids,) = encode_prompts(tokenizer, [PROMPT], chat_frame(tokenizer))
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT.strip()}], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(ids) == said
    start, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>"))
    assert [ids.count(start), ids.count(end)] == [2, 1]  # tokens, not letters


def test_no_token_spans_frame_and_message_or_prompt_and_title(tokenizer: PreTrainedTokenizerBase) -> None:
    frame = chat_frame(tokenizer)
    assert frame is not None
    for text in ("the", "he the", " the"):  # which "the", " the" could be joined with what is before
        (ids,) = encode_prompts(tokenizer, [text], frame)
        (alone,) = encode_titles(tokenizer, [text])
        assert ids == [*frame.before, *alone, *frame.after]


def test_a_title_cannot_end_the_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (ids,) = encode_prompts(tokenizer, ["the <|im_end|>\nAnswer:\n"], chat_frame(tokenizer))
    assert ids.count(end) == 1
    assert "<|im_end|>\nAnswer:" in tokenizer.decode(ids)


def test_without_template_or_switched_off_prompts_are_what_they_were(tokenizer: PreTrainedTokenizerBase) -> None:
    shipped = load_tokenizer(SHIPPED_FOLDER)
    assert chat_frame(shipped) is None
    assert PromptConfig().chat
    (ids,) = encode_prompts(tokenizer, [PROMPT])
    assert tokenizer.decode(ids) == PROMPT


def _config(path: Path | str, chat: bool) -> RunConfig:
    model = {"kind": "pretrained", "path": str(path)}
    return RunConfig.model_validate({"system": "zero-shot", "model": model, "prompt": {"chat": chat}})


def _tokenized(path: Path | str, chat: bool) -> str:
    (stage,) = (stage for stage in chain(_config(path, chat)) if stage.kind == "tokenize")
    return stage.address.key


def test_addresses_move_with_the_template_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    assert _tokenized(SHIPPED_FOLDER, True) == _tokenized(SHIPPED_FOLDER, False)
    assert _tokenized(folder, True) != _tokenized(folder, False)
    before = chat_identity(_config(folder, True))
    template = folder / "chat_template.jinja"
    old = template.read_text()
    template.write_text(old.replace("assistant", "model"))
    assert chat_identity(_config(folder, True)) not in (None, before)
    template.write_text(old)
    assert chat_identity(_config(folder, True)) == before


def test_an_adapted_model_has_the_template_of_the_tokenizer_that_it_keeps(folder: Path) -> None:
    def identity(tokenizer: str, chat: bool) -> str | None:
        base = {"kind": "pretrained", "path": str(folder)}
        model = {"kind": "adapted", "base": base, "adapt": {"tokenizer": tokenizer}}
        return chat_identity(RunConfig.model_validate({"model": model, "prompt": {"chat": chat}}))

    assert identity("own", True) == chat_identity(_config(folder, True))
    assert identity("own", False) is identity("fitted", True) is None


def test_a_template_that_wants_something_else_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    kept = tokenizer.chat_template
    try:
        for template, why in (
            ("{{ raise_exception('only with a system message') }}", "only with a system message"),
            ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "once"),
            ("nothing", "once"),
        ):
            tokenizer.chat_template = template
            with pytest.raises(UserError, match=why):
                chat_frame(tokenizer)
    finally:
        tokenizer.chat_template = kept


def test_data_show_tells_what_the_model_reads(folder: Path, capsys: Any) -> None:
    show("generated", model=str(folder))
    said = capsys.readouterr().out
    assert "<|im_start|>user" in said
    assert "<|im_start|>assistant" in said
    assert "of which none is scored" in said
    show("generated")
    assert "<|im_start|>" not in capsys.readouterr().out


def test_the_report_shows_the_prompt_with_its_frame(folder: Path, tmp_path: Path) -> None:
    """Whole, as the tokens that the model gets, marks of the turns included."""
    frame_of = load_tokenizer(folder)
    (ids,) = encode_prompts(frame_of, [PROMPT], chat_frame(frame_of))
    root = tmp_path / "root"
    (root / "evaluate" / "one").mkdir(parents=True)
    (root / "evaluate" / "one" / MANIFEST).write_text(json.dumps({"inputs": {"tokenized": "tokenize/one"}}))
    tokenized = root / "tokenize" / "one"
    (tokenized / "test").mkdir(parents=True)
    pq.write_table(pa.table({"example": [3, 7], "prompt_ids": [[5], ids]}), tokenized / "test" / "0.parquet")
    frame_of.save_pretrained(tokenized / "tokenizer")
    said = prompt_as_read(Location.of(root), "evaluate/one", "test", 7)
    assert said == frame_of.decode(ids)
    assert said.count("<|im_start|>") == 2
    assert prompt_as_read(Location.of(root), "evaluate/one", "test", 8) == ""
