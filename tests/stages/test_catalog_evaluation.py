"""The whole catalog through a run's stages: ranks are those of scoring each title, for models and recommenders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raypref.config import RunConfig
from raypref.config.loading import dump, override
from raypref.data.columns import ExampleTable
from raypref.evaluation.metrics import means, per_user
from raypref.recommenders import load_recommender
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.policy import load_policy
from raypref.stages.prepare import catalog_of, genres_of, renderer_of, titles_of
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes
from tests.support.tiny_chain import TINY

SETTINGS: dict[str, Any] = {
    "evaluation.generate": True,
    "evaluation.splits": ["test", "aversion"],
    "evaluation.max_examples": 6,
}
NONE = {"prompt.candidates": "none"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("root"))


def config(method: str, **changes: Any) -> RunConfig:
    base = override(TINY, SETTINGS | {k.replace("__", "."): v for k, v in changes.items()}, "test")
    return override(base, method_changes(method, base), "test")


def rows(store: Store, run: RunConfig) -> tuple[pa.Table, Chain]:
    plan = chain(run)
    for stage in plan:
        if not store.done(stage.address):
            InProcess(store)(plan, stage)
    return pq.read_table(store.path(plan.evaluate.address) / "rows.parquet"), plan


def of_test(table: pa.Table) -> pa.Table:
    return table.filter(pa.compute.equal(table["split"], "test"))


def place(scores: np.ndarray, item: int) -> int:
    return 1 + int(sum(not s < scores[item] for i, s in enumerate(scores) if i != item))


@torch.no_grad()
def title_scores(store: Store, run: RunConfig, plan: Chain, example: dict[str, Any]) -> np.ndarray:
    """Log-prob of every title after the prompt without list, one forward pass each."""
    paths = plan.evaluate.input_paths(store)
    model, tokenizer = load_policy(run, paths["tokenize"], paths.get("model"))
    titles = titles_of(paths["prepare"])
    bare = run.model_copy(update={"prompt": run.prompt.model_copy(update={"candidates": "none"})})
    text = renderer_of(bare, paths["prepare"])(
        example["example"], [titles[i] for i in example["history"]], example["history_rating"], []
    )
    assert "candidates" not in text
    prompt = tokenizer(text)["input_ids"]
    found = []
    for title in titles:
        answer = [*tokenizer(title, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        logps = (
            model.eval()(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        )
        found.append(float(logps.gather(1, torch.tensor(answer)[:, None]).sum()))
    return np.array(found)


@pytest.mark.parametrize("prompts", ["listed", "none"])
def test_a_model_ranks_all_titles_as_one_by_one(store: Store, prompts: str) -> None:
    run = config("sft", evaluation__catalog="all", evaluation__constrain="catalog", prompt__candidates=prompts)
    table, plan = rows(store, run)
    prepared = store.path(plan.prepare.address)
    examples = next(iter(ExampleTable([prepared], "test"))).to_pylist()
    catalog = catalog_of(prepared, False)
    for row in of_test(table).to_pylist()[:3]:
        scores = title_scores(store, run, plan, examples[row["example"]])
        assert row["catalog_items"] == len(catalog.items)
        others = np.full(len(scores), -np.inf)
        others[catalog.items] = scores[catalog.items]
        assert row["catalog_rank"] == place(
            others[catalog.items], int(np.searchsorted(catalog.items, row["target_item"]))
        )
        assert row["top"] == np.argsort(-others, kind="stable")[:20].tolist()
        assert row["said_item"] in catalog.items
        assert row["said_inside"] <= 0
    values = means(of_test(table))
    assert values["catalog_hr@1"] <= values["catalog_hr@10"] <= values["catalog_hr@20"]
    assert 0 <= values["constrained_outside"] <= 1
    probe = table.filter(pa.compute.equal(table["split"], "aversion"))
    assert probe["catalog_rank"].null_count == probe.num_rows > 0


def test_what_was_seen_is_left_out(store: Store) -> None:
    every, plan = rows(store, config("popularity", evaluation__catalog="all"))
    unseen, _ = rows(store, config("popularity", evaluation__catalog="unseen"))
    prepared = store.path(plan.prepare.address)
    log = pq.read_table(prepared / "interactions.parquet").to_pandas()
    examples = next(iter(ExampleTable([prepared], "test"))).to_pylist()
    counts = load_recommender(store.path(plan.evaluate.inputs["fit"].address) / "model").counts.numpy()
    items = catalog_of(prepared, False).items
    for row, whole in zip(of_test(unseen).to_pylist(), of_test(every).to_pylist()):
        own = set(log["item"][log["user"] == row["user"]]) | set(examples[row["example"]]["history"])
        left = [i for i in items if i not in own or i == row["target_item"]]
        assert row["catalog_rank"] == place(counts[left], left.index(row["target_item"]))
        assert whole["catalog_rank"] == place(counts[items], int(np.searchsorted(items, row["target_item"])))
        assert not set(row["top"]) & (own - {row["target_item"]})
        assert len(row["top"]) == 20
        assert row["catalog_rank"] <= whole["catalog_rank"]
    assert len(genres_of(prepared) or []) == len(titles_of(prepared))
    assert np.isfinite(per_user(of_test(unseen))["catalog_diversity@10"]).all()


def test_random_lists_are_not_the_same_for_all(store: Store) -> None:
    table, _ = rows(store, config("random", evaluation__catalog="all"))
    assert len(set(map(tuple, of_test(table)["top"].to_pylist()))) == of_test(table).num_rows


def test_constrained_answers_are_candidates(store: Store) -> None:
    table, _ = rows(store, config("sft", evaluation__constrain="candidates", evaluation__beams=3))
    free, _ = rows(store, config("sft", evaluation__beams=3))
    for row in of_test(table).to_pylist():
        assert row["said_item"] in row["candidates"]
        assert set(row["said_beams"]) <= set(row["candidates"])
        assert len(row["said_beams"]) == 3
    assert table.select(free.column_names).equals(free)  # what is said freely stays what it was


def test_nothing_of_it_is_there_unless_asked_for(store: Store) -> None:
    table, _ = rows(store, config("sft"))
    assert not {"catalog_rank", "said_item", "top"} & set(table.column_names)
    addresses = {key: [str(stage.address) for stage in chain(config("sdpo", **changes))] for key, changes in {
        "as it is": {}, "said": {"evaluation__catalog": "none", "prompt__candidates": "listed"},
        "ranked": {"evaluation__catalog": "all"}, "no list": {"prompt__candidates": "none"},
    }.items()}  # fmt: skip
    assert addresses["as it is"] == addresses["said"]
    assert addresses["ranked"][:-1] != addresses["as it is"]
    assert [a == b for a, b in zip(addresses["ranked"], addresses["as it is"])].count(False) == 2  # sft's and its own
    assert addresses["no list"][0] == addresses["as it is"][0]
    assert addresses["no list"][1] != addresses["as it is"][1]


def test_a_run_without_lists_trains_on_prompts_without_lists(store: Store, tmp_path: Path) -> None:
    _, plan = rows(store, config("sft", prompt__candidates="none"))
    tokens = next(
        iter(
            ExampleTable(
                [store.path(plan.prepare.address), store.path(plan.evaluate.inputs["tokenize"].address)], "train"
            )
        )
    )
    _, tokenizer = load_policy(plan.config, store.path(plan.evaluate.inputs["tokenize"].address), None)
    titles = titles_of(store.path(plan.prepare.address))
    for row in tokens.to_pylist()[:5]:
        text = tokenizer.decode(row["prompt_ids"])
        absent = [titles[i] for i in row["candidates"] if i not in row["history"]]
        assert not any(f"\n{title}\n" in text for title in absent)
        assert "candidates" not in text
    assert dump(plan.config)["prompt"]["candidates"] == "none"
