"""MoRec: features as plain transformers give them, embeddings by hand, and that it learns from titles alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from raypref.config import recommender as configs
from raypref.config.loading import override
from raypref.models.backbone import train_tokenizer
from raypref.models.title_features import title_features
from raypref.recommenders import TrainingLog, fitted, load_recommender
from raypref.recommenders.log import Questions
from raypref.recommenders.morec import MoRec, standardized
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store
from tests.support.tiny_chain import TINY

TITLES = ["Crimson Harbor", "A", "The Long and Winding Road to Nowhere", "Golden Puppy 2"]
CONFIG = configs.Morec(dimension=8, max_length=8, dropout=0.0, layers=1, hidden=12)


@pytest.fixture(scope="module")
def encoder() -> tuple[Any, Any]:
    tokenizer = train_tokenizer(TITLES, 300)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **size))
    return model.eval(), tokenizer


@pytest.mark.parametrize("begin", [False, True])
def test_features_are_the_mean_of_a_titles_last_hidden_states(encoder: tuple[Any, Any], begin: bool) -> None:
    model, tokenizer = encoder
    if begin:
        tokenizer = train_tokenizer(TITLES, 300)
        special = [("<s>", tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=special)
    found = title_features(model, tokenizer, TITLES, batch=3)
    for title, own in zip(TITLES, found):
        ids = tokenizer(title, return_tensors="pt")["input_ids"]
        assert (ids[0, 0] == tokenizer.bos_token_id) == begin
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
        expected = states[1:].mean(dim=0) if begin else states.mean(dim=0)
        np.testing.assert_allclose(own, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_features_are_standardized() -> None:
    found = standardized(torch.tensor([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]]))
    spread = np.std([1, 3, 8])
    torch.testing.assert_close(found, torch.tensor([[-3 / spread, 0], [-1 / spread, 0], [4 / spread, 0]]).float())


def test_embeddings_are_projected_features() -> None:
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model = MoRec(CONFIG, 5, features)
    inner, outer = model.embedding.inner, model.embedding.outer
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    hidden = F.gelu(torch.from_numpy(scaled) @ inner.weight.T + inner.bias)
    expected = hidden @ outer.weight.T + outer.bias
    torch.testing.assert_close(model.item_embedding, expected)
    assert not model.embedding(torch.tensor([[5, 0]]))[0, 0].any()  # padding
    names = {name for name, _ in model.named_parameters()}
    assert "embedding.weight" not in names  # nothing is learnt of an item's number


def test_items_with_one_title_are_one_item() -> None:
    features = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    features[5] = features[2]
    model = MoRec(CONFIG, 6, features).eval()
    one, two = (model.score([np.array([0, item])], np.array([[1, 2, 5]])) for item in (2, 5))
    torch.testing.assert_close(one, two)
    assert one[0, 1] == one[0, 2]


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    model = MoRec(CONFIG, 6, np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)).eval()
    model.save(tmp_path / "model")
    again = load_recommender(tmp_path / "model")
    assert isinstance(again, MoRec)
    assert torch.equal(again.score([[1, 2]], np.array([[3, 4]])), model.score([[1, 2]], np.array([[3, 4]])))


def test_it_learns_an_order_of_titles() -> None:
    """On a circle of items the next one follows from the last; the encoder's numbers say nothing of the order."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 30, 80)
    items = (first[:, None] + np.arange(12)) % 30
    log = TrainingLog(np.repeat(np.arange(80), 10), items[:, :10].reshape(-1), 30)
    questions = Questions([row[:10] for row in items], items[:, 10])
    config = CONFIG.model_copy(
        update={"dimension": 16, "hidden": 32, "epochs": 12, "batch": 16, "learning_rate": 1e-2, "l2": (1e-6,)}
    )
    features = rng.normal(size=(30, 16)).astype(np.float32)
    model, _ = fitted(config, log, torch.device("cpu"), questions, features=features)
    scores = model.score([row[:11] for row in items], np.tile(np.arange(30), (80, 1)))
    assert (scores.argmax(dim=1).numpy() == items[:, 11]).mean() > 0.8


def test_its_stages(tmp_path: Path) -> None:
    settings = {"recommender": "morec", "dimension": 8, "epochs": 1, "l2": [1e-5, 1e-6]}
    config = override(TINY, {"system": "baseline", "baseline": settings, "evaluation.splits": ["test"]}, "test")
    store, run = Store(tmp_path), chain(config)
    assert [s.kind for s in run] == ["prepare", "features", "try", "try", "tune", "fit", "evaluate"]
    for stage in run:
        InProcess(store)(run, stage)
    features = np.load(store.path(run.shared[1].address) / "features.npy")
    assert features.shape == (80, 32)
    assert np.isfinite(features).all()
    model = load_recommender(store.path(run.trained.address) / "model")
    assert isinstance(model, MoRec)
    torch.testing.assert_close(model.embedding.features, standardized(torch.from_numpy(features)))
    assert store.manifest(run.evaluate.address)["facts"]["test"]["examples"] == 24
    other = chain(override(config, {"model.hidden_size": 64}, "test"))
    assert other.trained.address != run.trained.address
    adapted = chain(override(config, {"model.lora": {"rank": 2}}, "test"))  # the encoder has no adapter
    assert adapted.trained.address == run.trained.address
