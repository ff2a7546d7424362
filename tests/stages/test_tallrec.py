"""TALLRec: its questions, what it learns from, its scores as plain transformers give them, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from raypref.commands.export import Export, export
from raypref.config.data import PromptConfig
from raypref.config.loading import override
from raypref.data.columns import ExampleTable
from raypref.data.yes_no import YesNo
from raypref.errors import UserError
from raypref.models.backbone import train_tokenizer
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.prepare import titles_of
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes, seed_changes
from tests.support import liked_red
from tests.support.tiny_chain import changed

SMALL = changed(tallrec__negatives=2, evaluation__splits=["test", "aversion"], evaluation__max_examples=6)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain]:
    store = Store(tmp_path_factory.mktemp("results"))
    run = chain(override(SMALL, method_changes("tallrec", SMALL), "test"))
    assert [stage.kind for stage in run] == ["prepare", "tokenize", "sft", "evaluate"]
    for stage in run:
        InProcess(store)(run, stage)
    return store, run


def asker(**prompt: object) -> YesNo:
    titles = ["Crimson Harbor", "Golden Puppy", "Silent Road"]
    return YesNo(train_tokenizer(titles, 400), PromptConfig(**prompt), "movie", titles)


def test_a_question_names_the_history_and_one_candidate() -> None:
    text = asker().text(["Crimson Harbor", "Golden Puppy"], [4.0, float("nan")], "Silent Road")
    assert text == (
        "Given the user's movie viewing and rating history, identify whether the user will like the target by "
        "answering Yes or No:\n"
        "Crimson Harbor | Rating: 4\n"
        "Golden Puppy\n"
        "Whether the user will like to watch this movie next:\n"
        "Silent Road\n"
        "Answer:\n"
    )
    bare = asker(ratings=False).text(["Crimson Harbor", "Golden Puppy"], [4.0, 5.0], "Silent Road", drop=1)
    assert "rating" not in bare.lower()
    assert "Crimson Harbor" not in bare


def test_a_long_history_loses_its_oldest_lines() -> None:
    whole = asker()
    history, ratings = ["Crimson Harbor", "Golden Puppy"] * 30, [4.0] * 60
    ids = asker(max_tokens=260)._tokens(history, ratings, "Silent Road")
    assert len(ids) <= 260
    text = whole.tokenizer.decode(ids)
    assert text.startswith("Given")
    assert text.endswith("Silent Road\nAnswer:\n")
    with pytest.raises(UserError, match="without history"):
        asker(max_tokens=64)._tokens(history, ratings, "Silent Road" * 60)


def test_it_learns_from_the_target_and_some_other_candidates(done: tuple[Store, Chain]) -> None:
    store, run = done
    paths = run.evaluate.input_paths(store)
    examples = ExampleTable([paths["prepare"]], "train").read(0)
    questions = ExampleTable([paths["questions"]], "train").read(0)
    tokenizer = AutoTokenizer.from_pretrained(paths["questions"] / "tokenizer")
    titles = titles_of(paths["prepare"])
    assert questions.num_rows == 3 * examples.num_rows
    assert len(set(questions["example"].to_pylist())) == questions.num_rows
    assert questions["target"].to_pylist() == [0, 1, 1] * examples.num_rows
    assert [tokenizer.decode(ids) for ids in questions["title_ids"][0].as_py()] == ["Yes", "No"]
    prompts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in questions["prompt_ids"].to_pylist()[:60]]
    drawn = set()
    for i, row in enumerate(examples.slice(0, 20).to_pylist()):
        shown = [titles[item] for item in row["candidates"]]
        named = [shown.index(prompt.splitlines()[-2]) for prompt in prompts[3 * i : 3 * i + 3]]
        assert named[0] == row["target"]
        assert row["target"] not in named[1:]
        assert named[1] != named[2]
        drawn |= set(named)
    assert len(drawn) == 8  # every place of a list is asked about


def test_scores_are_the_log_odds_of_plain_transformers(done: tuple[Store, Chain]) -> None:
    store, run = done
    paths = run.evaluate.input_paths(store)
    model = AutoModelForCausalLM.from_pretrained(paths["model"] / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(paths["questions"] / "tokenizer")
    asking = YesNo(tokenizer, run.config.prompt, "movie", titles_of(paths["prepare"]))
    yes, no = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Yes", "No"))

    def logp(prompt: list[int], answer: list[int]) -> float:
        with torch.no_grad():
            logps = model(torch.tensor([prompt + answer])).logits[0].log_softmax(dim=-1)
        return sum(float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))

    rows = pq.read_table(store.path(run.evaluate.address) / "rows.parquet").to_pylist()
    for split, sign in (("test", 1), ("aversion", -1)):
        example = ExampleTable([paths["prepare"]], split).read(0).to_pylist()[0]
        row = next(r for r in rows if r["split"] == split and r["example"] == example["example"])
        history = [asking.titles[item] for item in example["history"]]
        for item, score in list(zip(example["candidates"], row["logps"]))[:4]:
            text = asking.text(history, example["history_rating"], asking.titles[item])
            prompt = tokenizer(text)["input_ids"]
            assert score == pytest.approx(sign * (logp(prompt, yes) - logp(prompt, no)), abs=1e-4)
        assert row["answer"] is None


def test_it_is_not_exported(done: tuple[Store, Chain], tmp_path: Path) -> None:
    store, run = done
    with pytest.raises(UserError, match="it answers Yes or No"):
        export(Export(store.path(run.evaluate.address), tmp_path / "to"), Console(quiet=True))


def test_its_address_follows_its_own_settings(done: tuple[Store, Chain]) -> None:
    _, run = done
    other = chain(override(run.config, {"tallrec.negatives": 1}, "test"))
    assert other.prepare.address == run.prepare.address
    assert other.trained.address != run.trained.address
    seed = chain(override(run.config, seed_changes(run.config, 1, False), "test"))
    assert seed.shared[1].address == run.shared[1].address
    assert seed.trained.address != run.trained.address
    assert chain(override(run.config, {"evaluation.generate": False}, "test")).evaluate.address == run.evaluate.address
    sft = chain(override(run.config, {"system": "sft"}, "test"))
    assert sft.shared[1].address != run.shared[1].address


def test_too_many_negatives_are_refused(done: tuple[Store, Chain]) -> None:
    store, run = done
    few = chain(override(run.config, {"tallrec.negatives": 8}, "test"))
    with pytest.raises(UserError, match="8 negatives are wanted, but an example has 7"):
        InProcess(store)(few, few.shared[1])


@pytest.mark.slow
def test_it_learns_what_users_like(tmp_path: Path) -> None:
    """Chance has 1 in 8."""
    store, run, rows = liked_red.evaluated(tmp_path, 2, system="tallrec", sft__max_steps=120)
    red = np.array([title.startswith("Red") for title in titles_of(store.path(run.prepare.address))])
    shown, liked = np.array([red[c].sum() for c in rows["candidates"]]), red[rows["target_item"]]
    expected = (liked / np.maximum(shown, 1)).mean()  # of one who tells red from blue and no more
    assert expected > 0.3
    assert (rows["rank"] == 1).mean() > 0.8 * expected
