"""A small model adapted to a data set: what it is shown, its new tokenizer, and what it then knows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from raypref.commands.adapt import adapt as adapt_command
from raypref.config import RunConfig
from raypref.config.data import CutConfig, DataConfig, GeneratedSource
from raypref.config.model import PretrainedModel, ScratchModel
from raypref.data.examples import examples_of
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.adaptation import Adaptation, Material, adapt, fitted_tokenizer, start
from raypref.models.folders import ADAPTED_TO
from raypref.models.lessons import check, copies, loss_of, padded
from raypref.stages.chain import chain

SMALL = ScratchModel(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=48, vocabulary=400)
DATA = DataConfig(source=GeneratedSource(users=60, items=80), max_history=5)
TINY = PretrainedModel(path="raypref-tiny", dtype="float32", lora=None)
CONFIG = RunConfig(data=DATA, model=TINY)


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(CONFIG)


def test_nothing_is_read_that_no_training_example_is_cut_from(material: Material) -> None:
    """The last two interactions of a user are the test's and the validation's targets, or come after them."""
    log = SOURCES["generated"](DATA.source)
    examples = examples_of(log, CutConfig(max_history=5))
    titles = material.titles
    held_out = {}
    for split in ("validation", "test"):
        for table in examples.shards(split):
            for row in table.to_pylist():
                seen = tuple(titles[row["history"]])
                held_out[seen + (titles[row["candidates"][row["target"]]],)] = split
    rng = np.random.default_rng(0)
    read = []
    for _ in range(300):
        lines = material.history(60, rng).split("\n")[1:]
        read.append([line.split(" | Rating: ")[0] for line in lines])
    windows = {tuple(lines[i : i + 6]) for lines in read for i in range(len(lines) - 5)}
    assert len(windows) > 500
    assert not windows & set(held_out)
    train = {(r["user"], r["position"]) for t in examples.shards("train") for r in t.to_pylist()}
    asked = {(r["user"], r["position"]) for r in material.rows()}
    assert asked == train


def test_a_question_keeps_its_answer_whatever_its_candidates(material: Material) -> None:
    rng = np.random.default_rng(0)
    for row in itertools.islice(material.rows(), 30):
        whole = material.question(row)
        assert len(whole.candidates) == 20
        for size in (2, 7, 20):
            fewer = material.question(row, size, rng)
            assert fewer.answer == whole.answer
            assert len(fewer.candidates) == size
            assert fewer.answer in fewer.candidates
            assert set(fewer.candidates) <= set(whole.candidates)
            assert fewer.prompt.endswith("\n".join([*fewer.candidates, "Answer:\n"]))
            assert (
                fewer.prompt.split("\n")[: len(row["history"]) + 2]
                == whole.prompt.split("\n")[: len(row["history"]) + 2]
            )


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
    before = backbone.build(TINY, known).get_input_embeddings().weight
    model = start(CONFIG, tokenizer, seed=0)
    after = model.get_input_embeddings().weight
    assert after.shape == (len(tokenizer), before.shape[1])
    assert model.get_output_embeddings().weight is after
    newline, old = tokenizer("\n")["input_ids"][0], known("\n")["input_ids"][0]
    assert torch.equal(after[newline], before[old])
    assert torch.equal(after[tokenizer.eos_token_id], before[known.eos_token_id])
    spread = after.std() / before.std()
    assert 0.8 < spread < 1.25


def test_the_loss_is_that_of_all_logits() -> None:
    torch.manual_seed(0)
    tokenizer = backbone.train_tokenizer(["a b c d e f g\n"] * 5, 300)
    model = backbone.build(SMALL, tokenizer)
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


def test_an_adapted_model_answers_with_candidates() -> None:
    """After some seconds most answers are candidates, of a catalog of which a quarter is; losses have fallen."""
    how = Adaptation(vocabulary=1024, copy_steps=40, steps=100, batch=16, longest=20)
    lines: list[str] = []
    model, tokenizer, log = adapt(CONFIG, how, lines.append, log_every=20)
    assert [row["step"] for row in log] == [20, 40, 60, 80, 100, 120, 140]
    assert len(lines) == 8
    assert log[0]["loss"] > log[1]["loss"]  # copying
    assert log[2]["loss"] > log[-1]["loss"]  # histories and prompts
    material = Material(CONFIG)
    test = [material.question(row) for row in itertools.islice(material.rows("test"), 50)]
    assert check(model, tokenizer, test)["valid_ratio"] > 0.4


def adapted_folder(folder: Path) -> None:
    options = "--data.source.users 40 --data.source.items 60 --adapt.vocabulary 600"
    options += " --adapt.copy-steps 1 --adapt.steps 1"
    assert adapt_command(["--out", str(folder), *options.split()]) == 0


def test_the_command_leaves_a_model_that_runs_of_the_same_training_data_take(tmp_path: Path) -> None:
    folder = tmp_path / "adapted"
    adapted_folder(folder)
    account = yaml.safe_load((folder / "adaptation.yaml").read_text())
    assert account["adaptation"]["vocabulary"] == 600
    assert account["log"][-1]["step"] == 2
    data = DataConfig(source=GeneratedSource(users=40, items=60))
    model = TINY.model_copy(update={"path": str(folder)})
    same = RunConfig(data=data.model_copy(update={"max_history": 7}), model=model)
    assert {stage.kind for stage in chain(same)} >= {"tokenize", "sft", "align"}
    for update, key in (({"k_core": 4}, "k_core"), ({"cold_users": 0.1}, "cold_users"), ({"seed": 1}, "seed")):
        with pytest.raises(UserError, match=f"adapted to other training data .*{key}"):
            chain(same.model_copy(update={"data": data.model_copy(update=update)}))
    other = data.model_copy(update={"source": GeneratedSource(users=41, items=60)})
    with pytest.raises(UserError, match="source"):
        chain(same.model_copy(update={"data": other}))
    (folder / ADAPTED_TO).unlink()
    chain(same.model_copy(update={"data": other}))


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="there is something already"):
        adapt_command(["--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_model_is_not_adapted_again_to_other_data(tmp_path: Path) -> None:
    folder = tmp_path / "adapted"
    adapted_folder(folder)
    with pytest.raises(UserError, match="adapted to other training data"):
        adapt_command(["--out", str(tmp_path / "again"), "--model.path", str(folder), "--data.source.users", "41"])
    assert not (tmp_path / "again").exists()
