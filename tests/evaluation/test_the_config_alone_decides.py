"""Evaluation obeys the config alone: nothing that a model folder says of generation acts, or breaks saving."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from raypref.config.model import LoraConfig, PretrainedModel
from raypref.config.objectives import Dpo
from raypref.config.training import AlignConfig
from raypref.evaluation.decoding import beam_answers, greedy_answers
from raypref.models import backbone
from raypref.models.folders import SHIPPED_FOLDER
from raypref.stages.chain import chain
from raypref.storage.store import Store
from tests.support.tiny_chain import changed, run

PROMPTS = [
    "Crimson Harbor | Rating: 5\nLucky Forger\nHollow Ransom\nAnswer:\n",
    "Golden Puppy\nLucky Forger\nAnswer:\n",
]
GENERATION: tuple[dict[str, Any], ...] = (
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 12},
    {"min_length": 400},
    {"max_new_tokens": 1},
    {"num_beams": 3},
    {"num_return_sequences": 2},
    {"use_cache": False},
    {"do_sample": True, "temperature": 3.0, "top_k": 1},
    {"temperature": 0.9, "top_p": 0.6},
    {"length_penalty": 5.0, "early_stopping": True},
    {"suppress_tokens": [*range(10, 200)]},
    {"bad_words_ids": [[28]]},
    {"forced_eos_token_id": 1, "exponential_decay_length_penalty": [1, 9.0]},
    {"renormalize_logits": True, "cache_implementation": "static"},
    {"eos_token_id": [1, 201]},
    {"return_dict_in_generate": True, "output_scores": True},
)
CONFIG: tuple[dict[str, Any], ...] = (
    {"use_cache": False},
    {"repetition_penalty": 1.3},
    {"min_length": 9, "do_sample": True},
)


def base(folder: Path, generation: dict[str, Any] | None, config: dict[str, Any]) -> Path:
    """The shipped model with settings of generation; None: without the file of them."""
    shutil.copytree(SHIPPED_FOLDER, folder)
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | config))
    return folder


def said(folder: Path, lora: bool) -> tuple[list[str], list[list[str]]]:
    """Greedy answers, and those of four beams."""
    config = PretrainedModel(path=str(folder), lora=LoraConfig() if lora else None, dtype="float32")
    tokenizer: PreTrainedTokenizerBase = backbone.load_tokenizer(folder)
    model: Any = backbone.build(config, tokenizer).eval()
    ids = [tokenizer(text)["input_ids"] for text in PROMPTS]
    return greedy_answers(model, tokenizer, ids, 4), beam_answers(model, tokenizer, ids, 4, 4)


@pytest.mark.parametrize(
    ("generation", "config"),
    [*((g, {}) for g in GENERATION), *((None, c) for c in CONFIG)],
    ids=lambda value: ",".join(value) if value else "none",
)
def test_what_a_model_folder_says_of_generation_does_not_act(
    generation: dict[str, Any] | None, config: dict[str, Any], tmp_path: Path
) -> None:
    folder = base(tmp_path / "base", generation, config)
    assert said(folder, lora=False) == said(SHIPPED_FOLDER, lora=False)
    model: Any = backbone.build(PretrainedModel(path=str(folder), lora=None), backbone.load_tokenizer(folder))
    backbone.save(model, tmp_path / "saved")
    backbone.load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    assert said(tmp_path / "saved", lora=False) == said(SHIPPED_FOLDER, lora=False)


def test_under_an_adapter_neither(tmp_path: Path) -> None:
    folder = base(tmp_path / "base", {"repetition_penalty": 1.3, "num_beams": 2, "use_cache": False}, {})
    assert said(folder, lora=True) == said(SHIPPED_FOLDER, lora=True)


def test_a_tokenizer_that_appends_its_end_token_changes_no_prompt(tmp_path: Path) -> None:
    folder = base(tmp_path / "base", {}, {})
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    rows = []
    for path in (folder, SHIPPED_FOLDER):
        store = Store(tmp_path / path.name / "root")
        model = {"kind": "pretrained", "path": str(path), "lora": None}
        plan, _ = run(changed(model=model, system="zero-shot", data__candidates__eval_random=19), store)
        rows.append(pq.read_table(store.path(plan.evaluate.address) / "rows.parquet"))
    assert rows[0].equals(rows[1])


def test_the_reference_is_of_the_precision_of_training(tmp_path: Path) -> None:
    align = {"align__objective": Dpo().model_dump(by_alias=True), "align__negatives": 1, "align__max_steps": 1}
    losses = {}
    for precision in ("float32", "bfloat16"):
        store = Store(tmp_path)
        plan, _ = run(changed(**align, resources__precision=precision), store)
        (first, *_) = (store.path(plan.align.address) / "metrics.jsonl").read_text().splitlines()  # type: ignore[attr-defined]
        losses[precision] = json.loads(first)
    assert losses["float32"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert losses["bfloat16"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert losses["bfloat16"]["reward_margin"] == 0


def test_references_of_two_precisions_are_kept_apart() -> None:
    config = changed(align=AlignConfig(objective=Dpo(), global_batch=16, negatives=3).model_dump(by_alias=True))
    plans = [chain(config.model_copy(update={"resources": config.resources.model_copy(update={"precision": p})}))
             for p in ("auto", "float32", "bfloat16")]  # fmt: skip
    assert len({str(plan.reference.address) for plan in plans}) == 3  # type: ignore[attr-defined]
    assert len({str(plan.sft.address) for plan in plans}) == 1  # type: ignore[attr-defined]
