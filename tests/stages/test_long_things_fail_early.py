"""Long titles and prompts, and models with few positions: named with counts before anything is trained, and mended."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from raypref.config import RunConfig
from raypref.config.data import DataConfig, PromptConfig
from raypref.config.loading import override
from raypref.config.sources import CsvSource
from raypref.data.columns import ExampleTable, splits_in
from raypref.data.encoding import encode_prompts
from raypref.data.lengths import Ruler
from raypref.data.prompts import PromptRenderer
from raypref.data.reading import cut_title, read_log
from raypref.data.tokens import ExampleTokenizer
from raypref.errors import UserError
from raypref.models.backbone import load_tokenizer
from raypref.models.folders import SHIPPED_FOLDER
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.needs import length_line
from raypref.stages.prepare import SETS
from raypref.storage.store import Store
from tests.support.tiny_chain import TINY

SHIPPED = {"kind": "pretrained", "path": "raypref-tiny", "lora": None}


@pytest.fixture
def long_titles(tmp_path: Path) -> dict[str, Any]:
    """40 items, the first with a title of 200 words; each of 24 users meets eight."""
    titles = [f"Title {i} " + ("word " * 200 if i == 0 else "") for i in range(40)]
    lines = ["user,item,rating,timestamp,title"]
    for user in range(24):
        lines += [
            f"u{user},i{(user + 5 * n) % 40},5,{1_600_000_000 + n},{titles[(user + 5 * n) % 40]}" for n in range(8)
        ]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    return {"source": {"kind": "csv", "path": str(tmp_path / "x.csv"), "domain": "movie"}, "k_core": 1}


@pytest.fixture
def few_positions(tmp_path: Path) -> Path:
    """A GPT-2 with learned positions, of which there are 72."""
    tokenizer = load_tokenizer(SHIPPED_FOLDER)
    sizes = {"n_positions": 72, "n_embd": 16, "n_layer": 1, "n_head": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **special)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def zero_shot(**settings: Any) -> RunConfig:
    changes = {"system": "zero-shot", "model": SHIPPED, "evaluation.max_examples": 4} | settings
    return override(TINY, {key.replace("__", "."): value for key, value in changes.items()}, "test")


def until_refused(config: RunConfig, store: Store) -> UserError:
    """The refusal, before the first stage after tokenizing."""
    plan = chain(config)
    prepare, tokenize, *_ = plan
    InProcess(store)(plan, prepare)
    with pytest.raises(UserError) as refused:
        InProcess(store)(plan, tokenize)
    assert length_line(plan, store) == f"TOO LONG: {refused.value}"
    return refused.value


def followed(config: RunConfig, error: UserError) -> list[RunConfig]:
    """The config with each of the options that a hint names."""
    assert error.hint.startswith("run it with ")
    configs = []
    for option in error.hint.removeprefix("run it with ").split(" or with "):
        words = shlex.split(option)
        changes = {name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2])}
        changes = {name: int(value) if value.isdigit() else value for name, value in changes.items()}
        configs.append(override(config, changes, "hint"))
    return configs


def run(config: RunConfig, store: Store) -> None:
    plan = chain(config)
    for stage in plan:
        InProcess(store)(plan, stage)
    facts = store.manifest(plan.evaluate.address)["facts"]
    assert facts["test"]["valid_ratio"] >= 0


def test_a_title_too_long_is_named_with_the_examples_that_have_it(long_titles: dict[str, Any], tmp_path: Path) -> None:
    config = zero_shot(data={**long_titles, "candidates": {"eval_random": 19}}, prompt__max_tokens=256)
    store = Store(tmp_path / "root")
    error = until_refused(config, store)
    assert "examples have candidates that alone take more tokens than a prompt may have" in error.what
    assert "the longest title has 407 tokens: 'Title 0 word word" in error.what
    assert store.manifest(chain(config).prepare.address)["facts"]["longest_title"] == len("Title 0" + " word" * 200)
    options = followed(config, error)
    assert len(options) == 3  # titles cut or left out, or longer prompts, for which this model has the positions
    for each in options:
        run(each, store)


def test_examples_without_room_are_counted_exactly(long_titles: dict[str, Any], tmp_path: Path) -> None:
    config = zero_shot(data=long_titles, prompt__max_tokens=256)
    store = Store(tmp_path / "root")
    error = until_refused(config, store)
    plan, titles = chain(config), read_log(config.data).items["title"].to_pylist()
    prepared = store.path(plan.prepare.address)
    long = titles.index(max(titles, key=len))
    rows = [row for s in splits_in(prepared, SETS) for t in ExampleTable([prepared], s) for row in t.to_pylist()]
    hit = sum(long in row["candidates"] for row in rows)
    assert error.what.startswith(f"{hit:,} of {len(rows):,} examples")


def test_a_model_with_too_few_positions_is_refused_and_the_hint_runs(few_positions: Path, tmp_path: Path) -> None:
    config = zero_shot(model={**SHIPPED, "path": str(few_positions)}, data__candidates__eval_random=7)
    store = Store(tmp_path / "root")
    plan = chain(config)
    assert "prompts may have 1,024 tokens (prompt.max_tokens), and the model has 72 positions" in length_line(
        plan, store
    )
    error = until_refused(config, store)
    assert "examples ask for more positions than the model has" in error.what
    for each in followed(config, error):
        run(each, store)
        assert "the model has 72 positions" in length_line(chain(each), store)


def test_told_lengths_are_the_true_ones() -> None:
    titles = ["Crimson Harbor", "Lucky Forger", "Ünïcode: 東京物語", "A", "Golden Puppy (1995)"]
    tokenizer = load_tokenizer(SHIPPED_FOLDER)
    tokenize = ExampleTokenizer(tokenizer, PromptRenderer(PromptConfig(templates=1), "movie", True), titles, 1024)
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "example": np.arange(30),
            "history": pa.array([rng.integers(0, 5, n) for n in rng.integers(1, 9, 30)], pa.list_(pa.int32())),
            "history_rating": pa.array([[5.0] * 9] * 30, pa.list_(pa.float32())),
            "candidates": pa.array([rng.permutation(5)[: 2 + i % 4] for i in range(30)], pa.list_(pa.int32())),
        }
    ).slice(7, 20)
    ruler = Ruler(tokenize, None)
    bare, history = ruler.told(table, ruler.line_tokens)
    true = [len(ids) for ids in tokenize(table)["prompt_ids"].to_pylist()]
    assert np.abs(bare + history - true).max() <= 4  # "and rating", and the longer of two wordings
    found = ruler.measure(lambda: [(table, False)])
    assert abs(found.longest - max(true)) <= 4
    assert found.too_long == found.beyond == 0
    assert tokenize.lengths(table.slice(3, 1)) == (
        len(encode_prompts(tokenizer, [tokenize.renderer(*tokenize._rows(table.slice(3, 1))[0], drop=99)])[0]),
        true[3],
    )


def test_titles_are_cut_at_words_and_stay_unique(long_titles: dict[str, Any]) -> None:
    assert cut_title("Crimson Harbor", 14) == "Crimson Harbor"
    assert cut_title("Crimson Harbor II", 14) == "Crimson Harbor"
    assert cut_title("Crimson Harbor II", 16) == "Crimson Harbor"
    assert cut_title("Llanfairpwllgwyngyll of Wales", 10) == "Llanfairpw"
    source = CsvSource.model_validate(long_titles["source"])
    titles = read_log(DataConfig(source=source, max_title=8)).items["title"].to_pylist()
    assert "Title 0" in titles
    assert len(set(titles)) == 40


def test_items_of_long_titles_are_left_out_with_their_interactions(long_titles: dict[str, Any]) -> None:
    source = CsvSource.model_validate(long_titles["source"])
    whole = read_log(DataConfig(source=source))
    log = read_log(DataConfig(source=source, max_title=80, long_titles="leave-out"))
    gone = {i for i, title in enumerate(whole.items["title"].to_pylist()) if len(title) > 80}
    assert gone
    kept = [row for row in whole.interactions.to_pylist() if row["item"] not in gone]

    def facts(log: Any, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        ids = log.items["item_id"].to_pylist()
        return [(row["user"], ids[row["item"]], row["timestamp"], row["rating"]) for row in rows]

    assert facts(log, log.interactions.to_pylist()) == facts(whole, kept)
    assert log.items["item"].to_pylist() == list(range(40 - len(gone)))
    lost = whole.interactions.num_rows - len(kept)
    assert log.assumed[-1] == f"{len(gone)} items left out, with their {lost} interactions: longer titles than 80"


def test_leaving_out_is_a_choice_that_addresses_know() -> None:
    assert "long_titles" not in chain(TINY).prepare.config
    left = override(TINY, {"data.max_title": 80, "data.long_titles": "leave-out"}, "test")
    cut = override(TINY, {"data.max_title": 80}, "test")
    assert chain(left).prepare.address != chain(cut).prepare.address
