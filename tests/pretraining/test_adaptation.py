"""A small model adapted to a data set: what it is shown, its new tokenizer, and what it then knows."""

from __future__ import annotations

import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from raypref.commands.adapt import adapt as adapt_command
from raypref.config import RunConfig
from raypref.config.adaptation import Adaptation
from raypref.config.data import DataConfig
from raypref.config.model import PretrainedModel, ScratchModel
from raypref.config.sources import GeneratedSource
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.folders import TRAINED_ON
from raypref.pretraining.adaptation import Material, adapt, fitted_tokenizer, start
from raypref.pretraining.lessons import check, copies, loss_of, padded
from raypref.stages.chain import chain
from tests.support.raw_formats import llara

SMALL = ScratchModel(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=48, vocabulary=400)
DATA = DataConfig(source=GeneratedSource(users=60, items=80), max_history=5)
MODEL = PretrainedModel(path="raypref-tiny", dtype="float32", lora=None)
CONFIG = RunConfig(data=DATA, model=MODEL)


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(CONFIG)


CUTS = [
    {"split": split, "target": target, "cold_users": cold, "cold_items": cold}
    for split in ("leave-last-two", "user", "time")
    for target in ("recpo", "next")
    for cold in (0.0, 0.1)
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: "-".join(map(str, cut.values())))
def test_nothing_is_learned_from_what_is_tested(cut: dict[str, Any]) -> None:
    data = DataConfig.model_validate({**DATA.model_dump(), "k_core": 2, **cut})
    material = Material(CONFIG.model_copy(update={"data": data}))
    user = np.repeat(np.arange(len(material.starts)), material.lengths)
    learned = np.unique(material.examples.training_interactions()[0])[user]
    read = set(zip(learned.tolist(), material.item.tolist()))
    held_out = [row for split in ("validation", "test") for row in material.rows(split)]
    assert len(held_out) >= 10
    assert not read & {(row["user"], row["candidates"][row["target"]]) for row in held_out}
    asked = list(material.rows(easy=True))
    assert not {(r["user"], r["candidates"][r["target"]]) for r in asked} - read
    for row in asked[:50]:
        assert {(row["user"], item) for item in row["history"]} <= read


def test_easy_questions_are_those_of_fine_tuning_with_random_items(material: Material) -> None:
    met: dict[int, set[int]] = {}
    for user, item in zip(material.examples.user, material.examples.item):
        met.setdefault(int(user), set()).add(int(item))
    more = 0
    for row, own in itertools.islice(zip(material.rows(easy=True), material.rows()), 100):
        target = row["candidates"][row["target"]]
        assert (row["user"], row["position"], row["history"]) == (own["user"], own["position"], own["history"])
        assert target == own["candidates"][own["target"]]
        assert len(set(row["candidates"])) == 20
        assert met[row["user"]] & set(row["candidates"]) == {target}
        more += len(met[row["user"]] & set(own["candidates"])) - 1
    assert more > 300  # subsequent items of the user's own, which fine-tuning shows beside random ones


def test_published_lists_keep_their_length_and_their_ratings(tmp_path: Path) -> None:
    data = DataConfig(source=llara(tmp_path), min_history=1)
    material = Material(CONFIG.model_copy(update={"data": data}))
    assert {len(row["candidates"]) for row in material.rows(easy=True)} == {20}
    shown = [rating for row in material.rows() for rating in row["history_rating"] if rating == rating]
    assert bool(shown) == bool(np.isfinite(material.rating).any())
    assert len(material.rating) == len(material.item)


def test_histories_are_pieces_of_the_log_in_order(material: Material) -> None:
    rng = np.random.default_rng(0)
    ranges = [(s, s + n) for s, n in zip(material.starts, material.lengths)]
    whole = ["\n" + "\n".join(material.titles[material.item[slice(*r)]]) + "\n" for r in ranges]
    rated = 0
    for _ in range(100):
        first, *lines = material.history(7, rng).split("\n")
        assert 1 <= len(lines) <= 7
        piece = "\n" + "\n".join(line.split(" | Rating: ")[0] for line in lines) + "\n"
        assert any(piece in text for text in whole)
        assert ("rating" in first) == any(" | Rating: " in line for line in lines)
        rated += "rating" in first
    assert 50 < rated < 90


def test_a_question_keeps_its_answer_whatever_its_candidates(material: Material) -> None:
    rng = np.random.default_rng(0)
    for row in itertools.islice(material.rows(), 30):
        whole = material.question(row)
        assert len(whole.candidates) == 20
        before = whole.prompt.removesuffix("\n".join([*whole.candidates, "Answer:\n"]))
        assert before != whole.prompt
        for size in (2, 7, 20):
            fewer = material.fewer(row, size, rng)
            assert fewer.answer == whole.answer
            assert len(set(fewer.candidates)) == size
            assert fewer.answer in fewer.candidates
            assert set(fewer.candidates) <= set(whole.candidates)
            assert fewer.prompt == before + "\n".join([*fewer.candidates, "Answer:\n"])


def test_a_title_is_few_tokens_and_the_same_in_prompt_and_answer(material: Material) -> None:
    tokenizer = fitted_tokenizer(material, 2048)
    titles = [str(title) for title in material.titles]
    lengths = [len(ids) for ids in tokenizer(titles)["input_ids"]]
    assert np.mean(lengths) < 1.5
    for row in itertools.islice(material.rows(), 20):
        question = material.question(row)
        ids = tokenizer(question.prompt)["input_ids"]
        for title in question.candidates:
            own = tokenizer(f"{title}\n")["input_ids"]
            assert tokenizer(title)["input_ids"] == own[:-1]
            assert any(ids[i : i + len(own)] == own for i in range(len(ids)))


def test_tokens_that_the_model_knows_keep_their_embeddings(material: Material) -> None:
    tokenizer = fitted_tokenizer(material, 1024)
    known = backbone.load_tokenizer("raypref/base")
    before = backbone.build(MODEL, known).get_input_embeddings().weight
    model = start(CONFIG, tokenizer, seed=0)
    after = model.get_input_embeddings().weight
    assert after.shape == (len(tokenizer), before.shape[1])
    assert model.get_output_embeddings().weight is after
    newline, old = tokenizer("\n")["input_ids"][0], known("\n")["input_ids"][0]
    assert torch.equal(after[newline], before[old])
    assert torch.equal(after[tokenizer.eos_token_id], before[known.eos_token_id])
    spread = after.std() / before.std()
    assert 0.8 < spread < 1.25


def test_an_untied_head_gets_new_rows_too_and_a_model_of_one_s_own_starts_fresh(
    material: Material, tmp_path: Path
) -> None:
    known = backbone.train_tokenizer(["The Quiet River\nAnswer:\n"] * 9, 300)
    untied = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(known), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
        )
    )
    untied.save_pretrained(tmp_path)
    known.save_pretrained(tmp_path)
    tokenizer = fitted_tokenizer(material, 600)
    model = start(CONFIG.model_copy(update={"model": MODEL.model_copy(update={"path": str(tmp_path)})}), tokenizer, 0)
    newline, old = tokenizer("\n")["input_ids"][0], known("\n")["input_ids"][0]
    for table, before in (
        (model.get_input_embeddings(), untied.get_input_embeddings()),
        (model.get_output_embeddings(), untied.get_output_embeddings()),
    ):
        assert len(table.weight) == len(tokenizer)
        assert torch.equal(table.weight[newline], before.weight[old])
    fresh = start(CONFIG.model_copy(update={"model": SMALL}), tokenizer, 0)
    assert fresh.get_input_embeddings().weight.shape == (len(tokenizer), 32)


@pytest.mark.parametrize("cap", [None, 0.05])
def test_the_loss_is_that_of_the_model_s_own_logits(cap: float | None) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    kinds: Any = (LlamaConfig, LlamaForCausalLM) if cap is None else (Gemma2Config, Gemma2ForCausalLM)
    more = {} if cap is None else {"final_logit_softcapping": cap, "num_key_value_heads": 1, "head_dim": 16}
    model = kinds[1](kinds[0](vocab_size=300, **shape, **more))
    lesson = padded([[5, 6, 7, 8], [9, 10]], [[0.2, 0.2, 1.0, 1.0], [0.0, 1.0]], pad=2)
    logps = model(input_ids=lesson.ids).logits.log_softmax(-1)
    by_hand = -(0.2 * logps[0, 0, 6] + logps[0, 1, 7] + logps[0, 2, 8] + logps[1, 0, 10]) / 3.2
    torch.testing.assert_close(loss_of(model, lesson), by_hand)


def test_copies_count_the_second_time_only() -> None:
    lesson = copies(np.random.default_rng(0), 12, 100)
    length = lesson.ids.shape[1] // 2
    assert torch.equal(lesson.ids[:, :length], lesson.ids[:, length:])
    assert lesson.weights[:, : length + 1].sum() == 0
    assert (lesson.weights[:, length + 1 :] == 1).all()


@pytest.mark.measures
def test_an_adapted_model_answers_with_candidates(caplog: pytest.LogCaptureFixture) -> None:
    """After some seconds most answers are candidates, of a catalog of which a quarter is; losses have fallen."""
    how = Adaptation(vocabulary=1024, copy_steps=80, steps=160, batch=24, longest=20)
    with caplog.at_level(logging.INFO, "raypref.pretraining.adaptation"):
        model, tokenizer, log = adapt(CONFIG, how, log_every=40)
    assert [row["step"] for row in log] == [40, 80, 120, 160, 200, 240]
    assert len(caplog.messages) == 7
    assert log[0]["loss"] > log[1]["loss"]  # copying
    assert log[2]["loss"] > log[-1]["loss"]  # histories and prompts
    material = Material(CONFIG)
    test = [material.question(row) for row in itertools.islice(material.rows("test"), 50)]
    assert check(model, tokenizer, test)["valid_ratio"] > 0.45


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves."""
    folder = tmp_path_factory.mktemp("models") / "adapted"
    options = "--data.source.users 40 --data.source.items 60 --adapt.vocabulary 600"
    options += " --adapt.copy-steps 1 --adapt.steps 1"
    assert adapt_command(["--out", str(folder), "--root", str(folder.parent), *options.split()]) == 0
    return folder


def test_the_command_leaves_a_model_that_runs_of_the_same_training_data_take(adapted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapted"
    shutil.copytree(adapted, folder)
    account = yaml.safe_load((folder / "adaptation.yaml").read_text())
    assert account["adaptation"]["vocabulary"] == 600
    assert account["log"][-1]["step"] == 2
    data = DataConfig(source=GeneratedSource(users=40, items=60))
    model = MODEL.model_copy(update={"path": str(folder)})
    tokenizer = backbone.load_tokenizer(folder)
    loaded = backbone.build(model, tokenizer)
    assert loaded.config.vocab_size == len(tokenizer) <= 600
    assert [loaded.config.bos_token_id, loaded.config.eos_token_id, loaded.config.pad_token_id] == [
        tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id,
    ]  # fmt: skip
    same = RunConfig(data=data.model_copy(update={"max_history": 7}), model=model)
    assert {stage.kind for stage in chain(same)} >= {"tokenize", "sft", "align"}
    for update, key in (({"k_core": 4}, "k_core"), ({"cold_users": 0.1}, "cold_users"), ({"seed": 1}, "seed")):
        with pytest.raises(UserError, match=f"trained on other data .*{key}"):
            chain(same.model_copy(update={"data": data.model_copy(update=update)}))
    other = data.model_copy(update={"source": GeneratedSource(users=41, items=60)})
    with pytest.raises(UserError, match="source"):
        chain(same.model_copy(update={"data": other}))
    (folder / TRAINED_ON).unlink()
    chain(same.model_copy(update={"data": other}))


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="there are files already"):
        adapt_command(["--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_model_is_not_adapted_again_to_other_data(adapted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained on other data"):
        adapt_command(["--out", str(tmp_path / "again"), "--model.path", str(adapted), "--data.source.users", "41"])
    assert not (tmp_path / "again").exists()
