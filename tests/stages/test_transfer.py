"""Cross-domain: trained on one data set, evaluated on the held-out users of another."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from raypref.config import RunConfig
from raypref.config.loading import dump
from raypref.data.columns import ExampleTable
from raypref.errors import UserError
from raypref.evaluation.yes_no import log_odds
from raypref.stages.chain import chain
from raypref.stages.policy import load_policy
from raypref.stages.prepare import titles_of
from raypref.stages.tokenize import asker_of
from raypref.storage.store import Store
from raypref.sweeps.options import RunOptions, parse
from tests.support.shared_store import made
from tests.support.tiny_chain import TINY, changed, run

ELSEWHERE = {"source": {"kind": "generated", "users": 50, "items": 90, "mean_length": 12, "seed": 7}}


def elsewhere(**settings: object) -> RunConfig:
    content = dump(changed(**settings))
    return RunConfig.model_validate(content | {"transfer": content["data"] | ELSEWHERE})


def test_training_is_shared_and_the_evaluation_is_of_the_other_users(tmp_path: Path) -> None:
    store = Store(tmp_path)
    at_home, first = run(TINY, store)
    away, worked = run(elsewhere(), store)
    assert first.count("prepare") == 1
    assert worked == ["prepare", "tokenize", "evaluate", "evaluate"]  # the SFT model's, and the aligned one's
    assert away.trained.address == at_home.trained.address
    paths = away.evaluate.input_paths(store)
    asked = ExampleTable([paths["prepare"]], "test").read(0)
    rows = pq.read_table(store.path(away.evaluate.address) / "rows.parquet").to_pylist()
    tested = [row for row in rows if row["split"] == "test"]
    by_example = {row["example"]: row for row in asked.to_pylist()}
    assert tested
    for row in tested:
        assert row["candidates"] == by_example[row["example"]]["candidates"]
    assert titles_of(paths["prepare"]) != titles_of(store.path(at_home.prepare.address))


def test_the_other_catalog_is_read_in_the_models_own_vocabulary(shared_store: Store) -> None:
    store, plan = shared_store, made(elsewhere(system="sft"), shared_store)
    paths = plan.evaluate.input_paths(store)
    (own,) = [stage for stage in plan if stage.kind == "tokenize" and stage.inputs["prepare"] is plan.prepare]
    assert (paths["tokenize"] / "tokenizer/tokenizer.json").read_bytes() == (
        store.path(own.address) / "tokenizer/tokenizer.json"
    ).read_bytes()
    assert not list(paths["tokenize"].glob("*train*"))  # nobody learns from it


def test_zero_shot_goes_anywhere_and_item_numbers_do_not() -> None:
    plan = chain(elsewhere(system="zero-shot"))
    assert [stage.kind for stage in plan] == ["prepare", "tokenize", "prepare", "tokenize", "evaluate"]
    for system, why in (
        ("baseline", "no items but its own"),
        ("llara", "no items but its own"),
        ("chatrec", "as data"),
    ):
        with pytest.raises((ValidationError, UserError), match=why):
            elsewhere(system=system)


def test_tallrec_asks_about_the_other_items(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan, worked = run(elsewhere(system="tallrec", evaluation__splits=["test"], evaluation__max_examples=6), store)
    assert worked == ["prepare", "tokenize", "prepare", "sft", "evaluate"]
    home = chain(changed(system="tallrec"))
    assert plan.trained.address == home.trained.address
    paths = plan.evaluate.input_paths(store)
    rows = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet").to_pylist()
    asked = {row["example"]: row for row in ExampleTable([paths["prepare"]], "test").read(0).to_pylist()}
    model, tokenizer = load_policy(plan.config, paths["questions"], paths["model"])
    asker = asker_of(plan.config, paths["prepare"], tokenizer)
    assert asker.titles == titles_of(paths["prepare"]) != titles_of(store.path(home.prepare.address))
    examples = ExampleTable([paths["prepare"]], "test").read(0).slice(0, 6)
    odds = log_odds(model, asker, examples, 8)
    for row, expected in zip(rows, odds.tolist()):
        assert row["candidates"] == asked[row["example"]]["candidates"]
        assert row["logps"] == pytest.approx(expected, abs=1e-4)


def test_without_it_no_address_changes() -> None:
    content = dump(TINY)
    del content["transfer"]
    assert [s.address for s in chain(RunConfig.model_validate(content))] == [s.address for s in chain(TINY)]


def test_the_command_line_cuts_it_as_the_training_data() -> None:
    arguments = "--preset smoke --transfer-dataset generated --transfer.source.seed 7 --transfer.k-core 3".split()
    _, config, origins = parse(RunOptions, arguments, "")
    assert config.transfer is not None
    assert dump(config.transfer.source) == dump(config.data.source) | {"seed": 7}
    assert config.transfer.k_core == 3
    assert config.transfer.candidates == config.data.candidates
    assert origins["transfer.source.kind"] == "command line"
