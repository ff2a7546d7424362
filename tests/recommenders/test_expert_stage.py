"""The expert stage: when it is there, what it writes, and that objectives get it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raypref.config import RunConfig
from raypref.config.loading import override
from raypref.data.columns import ExampleTable
from raypref.objectives import COLUMNS
from raypref.recommenders import load_recommender
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import Chain
from raypref.stages.train import training_folders
from raypref.storage.store import Store
from raypref.training.batches import Collator
from raypref.training.tasks import table_columns

NARROW = RunConfig.model_validate(
    {
        "name": "test",
        "data": {"source": {"kind": "generated", "users": 60, "items": 80}, "max_train_examples_per_user": 2},
        "prompt": {"templates": 1},
        "model": {"kind": "scratch", "hidden_size": 16, "layers": 1, "heads": 2, "key_value_heads": 2,
                  "intermediate_size": 16, "vocabulary": 400},
        "expert": {"dimension": 16, "epochs": 2, "batch": 32, "l2": [1e-6]},
        "sft": {"max_steps": 1, "global_batch": 16, "validations": 0, "keep": "last"},
        "align": {"max_steps": 2, "global_batch": 16, "validations": 1, "validation_examples": 16, "keep": "last"},
        "evaluation": {"generate": False, "max_examples": 8},
        "resources": {"engine": "torch"},
    }
)  # fmt: skip


def run_with(objective: str, **changes: object) -> Chain:
    return chain(override(NARROW, {"align.objective": {"name": objective}, **changes}, "test"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def napo(store: Store) -> Chain:
    run = run_with("napo")
    for stage in run:
        InProcess(store)(run, stage)
    return run


def test_only_objectives_that_read_its_columns_have_the_stage() -> None:
    with_expert = {"napo", "eapo", "ea-sdpo", "ea-ipo", "ea-cpo"}
    for name in sorted(with_expert | {"recpo", "sdpo", "dpo", "cpo", "alpha-dpo"}):
        run = run_with(name)
        assert (run.expert is not None) == (name in with_expert), name
        assert ("expert" in run.align.inputs) == (name in with_expert)
        assert (run.expert in run.shared) == (name in with_expert)
    assert run_with("sdpo", **{"align.objective.share_negatives": True}).expert is not None


def test_its_address_follows_the_data_and_its_own_settings_alone() -> None:
    address = run_with("napo").expert.address
    assert run_with("eapo", **{"sft.max_steps": 2, "align.seed": 3}).expert.address == address
    for change in ({"expert.share": 0.5}, {"expert.seed": 1}, {"data.seed": 1}):
        changed = run_with("napo", **change)
        assert changed.expert.address != address
        assert changed.align.address != run_with("napo").align.address
    plain = run_with("recpo")
    assert run_with("recpo", **{"expert.seed": 1}).align.address == plain.align.address


def test_columns_against_a_direct_computation(store: Store, napo: Chain) -> None:
    """Scores are inner products, confidences (1 - cosine) / 2, of the history that the example shows."""
    folder = store.path(napo.expert.address)
    model = load_recommender(folder / "model")
    items = model.item_embedding.detach().numpy()
    for split in ("train", "validation"):
        table = ExampleTable([store.path(napo.prepare.address), folder], split).read(0)
        assert table.num_rows > 40
        for row in table.slice(0, 10).to_pylist():
            assert len(row["expert_scores"]) == len(row["expert_confidences"]) == len(row["candidates"])
            with torch.no_grad():
                sequence = model.encode(torch.tensor([row["history"]]))[0, -1].numpy()
            candidates = items[row["candidates"]]
            np.testing.assert_allclose(row["sequence_embedding"], sequence, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(row["expert_scores"], candidates @ sequence, rtol=1e-4, atol=1e-5)
            cosine = candidates @ sequence / np.linalg.norm(candidates, axis=1) / np.linalg.norm(sequence)
            np.testing.assert_allclose(row["expert_confidences"], (1 - cosine) / 2, rtol=1e-4, atol=1e-5)
    assert not (folder / "test").exists()
    assert store.manifest(napo.expert.address)["facts"]["interactions"] > 0


def test_a_batch_carries_them_under_the_objectives_names(store: Store, napo: Chain) -> None:
    config = override(
        NARROW, {"align.objective": {"name": "rosepo", "smoothing": "expert"}, "align.negatives": 4}, "test"
    ).align
    wanted = {*table_columns(config), *table_columns(run_with("napo").config.align)}
    wanted |= {"rating", "latency", "latency_days"}
    folders = training_folders(napo.align, store)
    table = ExampleTable(folders, "train", sorted(wanted)).read(0).slice(3, 8)
    collator = Collator(4, 0, 0)
    batch, chosen = collator(table, 0), collator.choose(table, 0)
    rows = table.to_pylist()
    for name in COLUMNS:
        assert name in batch.columns, name
    for b, row in enumerate(rows):
        for stored, name in (("expert_scores", "expert_score"), ("expert_confidences", "expert_confidence")):
            values = np.array(row[stored], dtype=np.float32)
            assert batch.columns[f"{name}_pos"][b] == values[row["target"]]
            assert batch.columns[f"{name}_neg"][b].tolist() == values[chosen[b, 1:]].tolist()
        others = [s for c, s in enumerate(row["expert_scores"]) if c != row["target"]]
        assert batch.columns["expert_score_all_neg"][b].tolist() == others
        assert batch.columns["sequence_embedding"][b].tolist() == row["sequence_embedding"]
        for name in ("rating", "latency", "latency_days"):  # NaN: an item that the user never met
            expected = np.array(row[name], dtype=np.float32)[chosen[b]]
            found = torch.cat([batch.columns[f"{name}_pos"][b : b + 1], batch.columns[f"{name}_neg"][b]]).numpy()
            np.testing.assert_array_equal(found, expected)
            assert not np.isnan(found[0])
    assert batch.columns["latency_neg"].isnan().any()


def test_only_columns_that_the_objective_reads_are_loaded() -> None:
    plain = ["prompt_ids", "title_ids", "target"]
    assert table_columns(run_with("cpo").config.align) == plain
    assert table_columns(run_with("recpo").config.align) == [*plain, "ref_logps", "rating", "latency"]
    assert table_columns(run_with("eapo").config.align) == [*plain, "ref_logps", "expert_scores"]
    assert table_columns(run_with("napo").config.align) == [*plain, "expert_confidences", "sequence_embedding"]


@pytest.mark.parametrize("objective", ["napo", "eapo"])
def test_the_chain_runs_to_its_end(store: Store, napo: Chain, objective: str) -> None:
    run = run_with(objective)
    for stage in run:
        InProcess(store)(run, stage)
    lines = [json.loads(x) for x in Path(store.path(run.align.address), "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines)
    shown = "confidence" if objective == "napo" else "gradient_factor"
    assert all(0 < line[shown] < 1 for line in lines)
    assert store.done(run.evaluate.address)
