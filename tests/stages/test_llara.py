"""LLaRA: its prompts, its embeddings by hand and against the plain model, its curriculum, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from raypref.commands.export import Export, export
from raypref.config.data import PromptConfig
from raypref.config.loading import override
from raypref.config.model import LoraConfig, ScratchModel
from raypref.data.behavioural_tokens import HybridTokenizer, add_mark
from raypref.data.columns import ExampleTable
from raypref.data.prompts import PromptRenderer
from raypref.data.tokens import ExampleTokenizer
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.behaviour import BehaviouralEmbedding, attach
from raypref.models.layout import all_candidates
from raypref.models.scoring import TitleScorer
from raypref.recommenders import load_recommender
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.stages.policy import attach_behaviour, load_policy
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes
from raypref.training.batches import VALIDATION_EPOCH
from raypref.training.curriculum import CurriculumCollator
from tests.support import liked_red
from tests.support.tiny_chain import changed

EXPERT = {"dimension": 8, "epochs": 2, "batch": 32, "l2": [1e-6]}
TITLES = ["Crimson Harbor", "Golden Puppy", "Silent Road", "Lone Wolf"]
SMALL = ScratchModel(hidden_size=16, layers=2, heads=2, key_value_heads=2, intermediate_size=24, vocabulary=400)


def small_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = backbone.train_tokenizer([f"{title}\nAnswer:\n" for title in TITLES] * 3, 400)
    add_mark(tokenizer)
    return tokenizer


def examples(count: int = 1) -> pa.Table:
    return pa.table(
        {
            "example": pa.array(range(count), pa.int64()),
            "history": pa.array([[2, 0, 3]] * count, pa.list_(pa.int32())),
            "history_rating": pa.array([[2.0, 5.0, 4.0]] * count, pa.list_(pa.float32())),
            "candidates": pa.array([[1, 3]] * count, pa.list_(pa.int32())),
            "target": pa.array([0] * count, pa.int32()),
        }
    )


def hybrid(tokenizer: PreTrainedTokenizerBase, **prompt: Any) -> tuple[HybridTokenizer, ExampleTokenizer]:
    config = PromptConfig(templates=1, **prompt)
    given = (tokenizer, PromptRenderer(config, "movie", False), TITLES, config.max_tokens)
    return HybridTokenizer(*given), ExampleTokenizer(*given)


def test_a_behavioural_token_follows_each_title() -> None:
    tokenizer = small_tokenizer()
    made, plain = (kind(examples()) for kind in hybrid(tokenizer))
    ids = made["prompt_ids"][0].as_py()
    first = len(tokenizer)
    assert [token - first for token in ids if token >= first] == [2, 0, 3, 1, 3]
    assert [token for token in ids if token < first] == plain["prompt_ids"][0].as_py()
    assert made["title_ids"].equals(plain["title_ids"])
    for place, token in enumerate(ids):
        if token >= first:
            assert tokenizer.decode(ids[:place][-40:]).endswith(TITLES[token - first])


def test_what_a_prompt_does_not_show_has_no_token() -> None:
    tokenizer = small_tokenizer()
    first = len(tokenizer)
    liked = hybrid(tokenizer, items="filtered")[0](examples())["prompt_ids"][0].as_py()
    assert [token - first for token in liked if token >= first] == [0, 3, 1, 3]
    whole = hybrid(tokenizer)[0](examples())["prompt_ids"][0].as_py()
    short = hybrid(tokenizer, max_tokens=len(whole) - 1)[0](examples())["prompt_ids"][0].as_py()
    assert [token - first for token in short if token >= first] == [0, 3, 1, 3]  # the oldest line is gone


def with_behaviour(lora: LoraConfig | None = None) -> tuple[Any, Any, PreTrainedTokenizerBase, BehaviouralEmbedding]:
    """A plain model, the same one with behavioural tokens of 4 items, the tokenizer, and what reads the tokens."""
    tokenizer = small_tokenizer()
    config = SMALL.model_copy(update={"lora": lora})
    plain, model = (backbone.build(config, tokenizer).eval() for _ in range(2))
    attach(model, torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), len(tokenizer), 6, seed=0)
    embedding = (model.get_base_model() if lora else model).get_input_embeddings()
    assert isinstance(embedding, BehaviouralEmbedding)
    return plain, model.eval(), tokenizer, embedding


def test_embeddings_by_hand() -> None:
    plain, _, tokenizer, embedding = with_behaviour()
    ids = torch.tensor([[5, len(tokenizer) + 2, 7]])
    table = plain.get_input_embeddings().weight
    inner, outer = embedding.inner, embedding.outer
    item = outer.weight @ F.gelu(inner.weight @ embedding.items[2] + inner.bias) + outer.bias
    torch.testing.assert_close(embedding(ids)[0], torch.stack([table[5], item, table[7]]))


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_projection_onto_a_word_is_that_word(lora: LoraConfig | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedding of token 9 for every item, titles score as if 9 stood in each item's place."""
    plain, model, tokenizer, embedding = with_behaviour(lora)
    table = hybrid(tokenizer)[0](examples())
    word = embedding.text.weight[9]
    monkeypatch.setattr(embedding, "project", lambda codes: word.expand(len(codes), -1))
    ids = [9 if token >= len(tokenizer) else token for token in table["prompt_ids"][0].as_py()]
    replaced = table.set_column(1, "prompt_ids", pa.array([ids], pa.list_(pa.int32())))
    with torch.no_grad():
        found = TitleScorer(model)(all_candidates(table, tokenizer.pad_token_id))
        expected = TitleScorer(plain)(all_candidates(replaced, tokenizer.pad_token_id))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_saved_model_is_the_same_model(lora: LoraConfig | None, tmp_path: Path) -> None:
    _, model, tokenizer, embedding = with_behaviour(lora)
    batch = all_candidates(hybrid(tokenizer)[0](examples()), tokenizer.pad_token_id)
    with torch.no_grad():
        before = TitleScorer(model)(batch)
        backbone.save(model, tmp_path)
        assert (model.get_base_model() if lora else model).get_input_embeddings() is embedding  # as it was
        again = backbone.restore(SMALL.model_copy(update={"lora": lora}), tokenizer, tmp_path).eval()
        torch.testing.assert_close(TitleScorer(again)(batch), before)
    trained = {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert sum("outer" in name for name in trained) == 2  # the projection can be trained on
    assert not any("items" in name for name in trained)  # the recommender's embeddings are kept


def test_the_curriculum_goes_from_texts_to_hybrid_prompts() -> None:
    tokenizer = small_tokenizer()
    first, count = len(tokenizer), 400
    made = hybrid(tokenizer)[0](examples(count))
    table = made.append_column("target", examples(count)["target"])
    collator = CurriculumCollator(0, 3, tokenizer.pad_token_id, first=first)

    def shares(epoch: int) -> float:
        prompts = collator.shown(table, epoch)["prompt_ids"].to_pylist()
        counts = {sum(token >= first for token in ids) for ids in prompts}
        assert counts <= {0, 5}  # a prompt has all or none
        return float(np.mean([max(ids) >= first for ids in prompts]))

    assert shares(0) == 0
    assert shares(VALIDATION_EPOCH) == 1
    collator.progress = 0.25
    assert abs(shares(0) - 0.25) < 0.09
    before = collator.shown(table, 0)
    assert collator.shown(table, 0).equals(before)
    assert not collator.shown(table, 1).equals(before)
    batch = collator(table, 0).titles
    assert batch.spans[0].titles - batch.spans[0].start == len(before["prompt_ids"][0])
    collator.progress = 1.0
    assert shares(0) == 1


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Chain]:
    base = changed(expert=EXPERT, evaluation__splits=["test"], evaluation__max_examples=6, llara__hidden=12)
    store = Store(tmp_path_factory.mktemp("results"))
    run = chain(override(base, method_changes("llara", base), "test"))
    assert [stage.kind for stage in run] == ["prepare", "tokenize", "expert", "sft", "evaluate"]
    for stage in run:
        InProcess(store)(run, stage)
    return store, run


def test_its_stages(done: tuple[Store, Chain]) -> None:
    store, run = done
    paths = run.evaluate.input_paths(store)
    model, tokenizer = load_policy(run.config, paths["tokenize"], paths["model"])
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, BehaviouralEmbedding)
    expert = load_recommender(store.path(run.shared[2].address) / "model")
    torch.testing.assert_close(embedding.items, expert.item_embedding.detach())
    assert embedding.first == len(tokenizer)
    fresh = backbone.build(run.config.model, tokenizer)
    attach_behaviour(run.config, fresh, tokenizer, store.path(run.shared[2].address))
    moved = (embedding.outer.weight - fresh.get_input_embeddings().outer.weight).abs().max()
    assert moved > 1e-4  # it was trained
    rows = pq.read_table(store.path(run.evaluate.address) / "rows.parquet").to_pylist()
    table = ExampleTable([paths["tokenize"]], "test").read(0).slice(0, 6)
    with torch.no_grad():
        logps = TitleScorer(model.eval())(all_candidates(table, tokenizer.pad_token_id))
    np.testing.assert_allclose([row["logps"] for row in rows], logps.numpy(), atol=1e-4)
    assert all(isinstance(row["answer"], str) for row in rows)


def test_it_is_not_exported(done: tuple[Store, Chain], tmp_path: Path) -> None:
    store, run = done
    with pytest.raises(UserError, match="it reads behavioural tokens"):
        export(Export(store.path(run.evaluate.address), tmp_path / "to"), Console(quiet=True))


def test_its_address_follows_its_own_settings(done: tuple[Store, Chain]) -> None:
    _, run = done

    def other(**changes: Any) -> Chain:
        return chain(override(run.config, {k.replace("__", "."): v for k, v in changes.items()}, "test"))

    for made in (other(llara__hidden=13), other(llara__curriculum=False), other(sft__seed=1)):
        assert [s.address == t.address for s, t in zip(made, run)] == [True, True, True, False, False]
    assert other(expert__seed=1).trained.address != run.trained.address
    napo = override(run.config, {"system": "aligned", "align.objective": {"name": "napo"}}, "test")
    assert run.shared[2].address in {stage.address for stage in chain(napo)}  # one expert serves both


@pytest.mark.slow
def test_it_learns_what_users_like(tmp_path: Path) -> None:
    """Chance has 1 in 8."""
    settings = {"system": "llara", "expert": EXPERT, "sft__max_steps": 150, "evaluation__generate": False}
    _, _, rows = liked_red.evaluated(tmp_path, 5, **settings)
    assert (rows["rank"] == 1).mean() > 2 / 8
