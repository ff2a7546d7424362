"""The reference scores what alignment draws and validation reads, nothing twice; and a log may be cut to some users."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypref.config.data import DataConfig
from raypref.data.columns import ExampleTable
from raypref.data.reading import read_log
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.reference import ShardScorer
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from tests.support.shared_store import copied, made
from tests.support.tiny_chain import TINY, changed

BATCH, CANDIDATES = 4, 8


def config(steps: int | None, validation: int = 5, seed: int = 0) -> Any:
    validated = {"align__validation_examples": validation} if validation else {"align__validations": 0}
    return changed(align__max_steps=steps, align__global_batch=BATCH, align__seed=seed, **validated)


@pytest.fixture
def store(shared_store: Store, tmp_path: Path) -> Store:
    """What is there before the reference is made."""
    plan = made(TINY, shared_store)
    own = copied(plan, shared_store, tmp_path)
    shutil.rmtree(own.root / "reference")
    return own


def scored(plan: Chain, store: Store) -> tuple[int, dict[str, dict[int, Any]]]:
    """Titles that the stage scored, and what its table has by split and example."""
    assert plan.reference is not None
    InProcess(store)(plan, plan.reference)
    table = {
        split: {row["example"]: row["ref_logps"] for t in ExampleTable([folder], split) for row in t.to_pylist()}
        for folder in [store.path(plan.reference.address)]
        for split in ("train", "validation")
    }
    return store.manifest(plan.reference.address)["facts"]["titles_scored"], table


def known(values: dict[int, Any]) -> set[int]:
    return {example for example, logps in values.items() if logps is not None}


def drawn_in_training(plan: Chain, store: Store) -> set[int]:
    """The examples that alignment's own loop puts into its batches, noted as it collates them."""
    from raypref.training.batches import Collator

    seen: set[int] = set()
    original = Collator.choose

    def noting(self, table, epoch):
        seen.update(table["example"].to_pylist())
        return original(self, table, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collator, "choose", noting)
        InProcess(store)(plan, plan.align)
    return seen


def test_only_what_is_drawn_is_scored_and_a_longer_run_adds(store: Store) -> None:
    short = chain(config(3))
    count, table = scored(short, store)
    train, validation = known(table["train"]), known(table["validation"])
    assert validation == set(range(5))
    assert len(train) <= 3 * 3 * BATCH < len(table["train"])  # 3 seeds of 3 steps
    assert count == CANDIDATES * (len(train) + len(validation))
    longer = chain(config(6, validation=9))
    assert longer.reference.address != short.reference.address
    more, grown = scored(longer, store)
    added = known(grown["train"]) - train
    assert added
    assert train < known(grown["train"])
    assert more == CANDIDATES * (len(added) + 4)  # nothing that was there is scored again
    for example in train:
        assert grown["train"][example] == table["train"][example]


def test_training_reads_nothing_that_was_not_scored(store: Store) -> None:
    for seed in (0, 2):
        plan = chain(config(3, validation=0, seed=seed))
        _, table = scored(plan, store)
        drawn = drawn_in_training(plan, store)
        assert len(drawn) == 3 * BATCH
        assert drawn <= known(table["train"])
    assert chain(config(3, seed=2)).reference.address == chain(config(3)).reference.address
    assert chain(config(3, seed=3)).reference.address != chain(config(3)).reference.address


def test_scores_are_those_of_the_whole_table(store: Store) -> None:
    _, part = scored(chain(config(3)), store)
    _, whole = scored(chain(config(None)), Store(store.root))
    assert all(logps is not None for logps in whole["train"].values())
    again = known(part["train"])
    np.testing.assert_allclose(
        [part["train"][e] for e in again], [whole["train"][e] for e in again], rtol=1e-5
    )  # fmt: skip


def test_a_stage_with_nothing_to_add_loads_no_model(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(chain(config(None)), store)
    monkeypatch.setattr(ShardScorer, "_load", lambda self: pytest.fail("a model was loaded"))
    assert scored(chain(config(4)), store)[0] == 0


def test_a_log_is_cut_to_users_by_seed() -> None:
    whole = read_log(TINY.data)
    cut = {seed: read_log(TINY.data.model_copy(update={"max_users": 20, "seed": seed})) for seed in (0, 1)}
    users = {seed: set(log.interactions["user"].to_pylist()) for seed, log in cut.items()}
    assert len(users[0]) == len(users[1]) == 20
    assert users[0] != users[1]
    kept = pa.compute.is_in(whole.interactions["user"], pa.array(sorted(users[0]), pa.int32()))
    assert cut[0].interactions.equals(whole.interactions.filter(kept))  # all of theirs, nothing of others
    assert read_log(TINY.data.model_copy(update={"max_users": 60})).interactions.equals(whole.interactions)


def test_the_number_of_users_counts_in_addresses_only_where_it_is_given() -> None:
    assert "max_users" not in chain(TINY).prepare.config
    assert chain(changed(data__max_users=20)).prepare.address != chain(TINY).prepare.address
    assert json.loads(DataConfig().model_dump_json())["max_users"] is None
