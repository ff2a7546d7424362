"""The reference's columns: of the SFT model, or of the base, its adapter off."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raypref.config import RunConfig
from raypref.data.columns import ExampleTable, shard_path
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.layout import all_candidates
from raypref.models.scoring import TitleScorer
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from tests.support.shared_store import alone
from tests.support.tiny_chain import TINY, changed

LORA = {"rank": 4, "alpha": 16, "dropout": 0.0}


def referenced(config: RunConfig, store: Store) -> tuple[Chain, np.ndarray]:
    """A run up to its reference, and the column of its first shard (B, C)."""
    plan = chain(config)
    assert plan.reference is not None
    with alone(store.root):
        for stage in (plan.prepare, plan.tokenize, plan.sft, plan.reference):
            InProcess(store)(plan, stage)
    column = pq.read_table(shard_path(store.path(plan.reference.address), "train", 0))["ref_logps"]
    return plan, np.array(column.to_pylist())


def test_with_its_adapter_off_the_reference_is_the_base_model(shared_store: Store) -> None:
    store = shared_store
    plan, base = referenced(changed(model__lora=LORA, align__reference="base", align__max_steps=None), store)
    other, sft = referenced(changed(model__lora=LORA, align__max_steps=None), store)
    assert plan.sft.address == other.sft.address
    tokenizer = backbone.load_tokenizer(store.path(plan.tokenize.address) / "tokenizer")
    untrained = TitleScorer(backbone.build(TINY.model, tokenizer).eval())
    table = ExampleTable([store.path(plan.tokenize.address)], "train").read(0)
    with torch.no_grad():
        expected = untrained(all_candidates(table, tokenizer.pad_token_id)).numpy()
    np.testing.assert_allclose(base, expected, rtol=1e-5)
    assert np.abs(sft - base).max() > 0.1


def test_a_model_without_adapter_has_none_to_turn_off() -> None:
    with pytest.raises(UserError, match=r"align\.reference = base is the model with its adapter off"):
        changed(align__reference="base")
