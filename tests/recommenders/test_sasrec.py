"""SASRec: what it may look at, what it learns, and that the same seed learns the same."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from raypref.config.data import DataConfig
from raypref.config.recommender import Sasrec
from raypref.config.sources import GeneratedSource
from raypref.data.examples import ExampleBuilder
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from raypref.recommenders import fit, load_recommender, training_log
from raypref.recommenders.fitting import ndcg, next_item_losses
from raypref.recommenders.log import Questions, TrainingLog
from raypref.recommenders.sasrec import SASRec

CPU = torch.device("cpu")
QUICK = Sasrec(l2=(1e-6,), dimension=16, batch=64, epochs=4, patience=4, max_length=8, learning_rate=1e-2)


def random_model(items: int = 30, **settings: object) -> SASRec:
    torch.manual_seed(0)
    model = SASRec(QUICK.model_copy(update=settings), items).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)  # soft attention: each place is looked at a little
        model.embedding.weight[items] = 0
    return model


def test_an_embedding_reads_the_past_and_not_the_future() -> None:
    model = random_model()
    history = torch.tensor([[3, 1, 4, 15, 9, 2]])
    before = model.encode(history)
    for place in range(6):
        changed = history.clone()
        changed[0, place] = 26
        moved = (model.encode(changed) - before).abs().amax(dim=-1)[0] > 1e-6
        assert moved.tolist() == [other >= place for other in range(6)]


def test_padding_changes_nothing_and_only_the_latest_items_count() -> None:
    model = random_model()
    short, long = np.array([5, 6, 7]), np.arange(12)
    together = model.sequence_embedding([short, long])
    torch.testing.assert_close(together[0], model.sequence_embedding([short])[0])
    torch.testing.assert_close(together[1], model.sequence_embedding([long[-8:]])[0])
    assert model.sequence_embedding([np.array([], dtype=int)]).isfinite().all()


def test_one_block_by_hand() -> None:
    """`x + values` with one item (it attends to itself alone), then `x + feed(norm(x))`, then the last norm."""
    model = random_model(layers=1, heads=2)
    block, width = model.blocks[0], 16
    x = model.embedding.weight[7] * math.sqrt(width) + model.position.weight[-1]
    value = (
        block.query_key_value.weight[2 * width :] @ block.attention_norm(x) + block.query_key_value.bias[2 * width :]
    )
    x = x + value
    expected = model.norm(x + block.feed(block.feed_norm(x)))
    torch.testing.assert_close(model.sequence_embedding([np.array([7])])[0], expected.detach())


def test_windows_hold_every_pair_once_padded_on_the_left() -> None:
    log = TrainingLog(np.array([0, 0, 0, 0, 1, 2, 2]), np.array([1, 2, 3, 4, 5, 6, 7]), 8)
    inputs, targets = log.windows(2)
    assert inputs.tolist() == [[-1, 1], [2, 3], [-1, 6]]
    assert targets.tolist() == [[-1, 2], [3, 4], [-1, 7]]


def test_what_is_kept_back_is_the_last_interaction_and_is_not_fitted_on() -> None:
    log = TrainingLog(np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 4, 5]), 6)
    kept, questions = log.keep_back(0)
    assert kept.item.tolist() == [1, 2, 4, 5]  # the second user has too few to spare one
    assert [h.tolist() for h in questions.histories] == [[1, 2]]
    assert questions.answers.tolist() == [3]


def test_a_share_of_the_interactions_keeps_their_order() -> None:
    log = TrainingLog(np.repeat(np.arange(100), 20), np.tile(np.arange(20), 100), 20)
    half = log.sample(0.5, seed=1)
    assert abs(len(half.user) - 1000) < 100
    assert (np.diff(half.user * 20 + half.item) > 0).all()
    assert log.sample(1.0, seed=1) is log


def test_the_sampled_loss_over_all_others_is_the_full_one() -> None:
    """Against 29 of 30 others, each counting 29/29: only the item not drawn is missing from the sum."""
    history, target = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])
    full = next_item_losses(random_model(sampled_items=30), history, target, np.random.default_rng(0)).mean()
    logits = random_model().encode(history)[0] @ random_model().item_embedding.T
    torch.testing.assert_close(full, torch.nn.functional.cross_entropy(logits, target[0]))
    sampled = [
        next_item_losses(random_model(sampled_items=29), history, target, np.random.default_rng(i)).mean().item()
        for i in range(30)
    ]
    assert min(sampled) < full.item() + 1e-4
    assert abs(np.mean(sampled) - full.item()) < 0.2 * full.item()


def test_ndcg_counts_ties_against_the_answer() -> None:
    model = random_model()
    history = np.array([1, 2])
    order = (model.sequence_embedding([history]) @ model.item_embedding.T)[0].argsort(descending=True)
    for place in (0, 2, 9, 10):
        gain = 1 / math.log2(place + 2) if place < 10 else 0.0
        assert ndcg(model, Questions([history], order[[place]].numpy())) == pytest.approx(gain)
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert ndcg(model, Questions([history], np.array([3]))) == 0


@pytest.fixture(scope="module")
def generated() -> Log:
    source = GeneratedSource(users=300, items=80, mean_length=24)
    return SOURCES["generated"](source)


def test_it_beats_popularity_on_validation(generated: Log) -> None:
    examples = ExampleBuilder(generated, DataConfig(k_core=1))
    config = QUICK.model_copy(update={"dimension": 32, "epochs": 30, "max_length": 50})
    model, facts = fit(SASRec, training_log(examples, 80), config, CPU)
    table = next(examples.shards("validation"))
    candidates, target = np.array(table["candidates"].to_pylist()), table["target"].to_numpy()
    scores = model.score(table["history"].to_pylist(), candidates).numpy()
    popularity = examples.train_counts[candidates]
    right, popular = ((scores.argmax(1) == target), (popularity.argmax(1) == target))
    assert right.mean() > popular.mean() + 0.08, (right.mean(), popular.mean(), facts)
    assert right.mean() > 0.2  # chance is 0.05


def test_the_same_seed_fits_the_same_weights_and_leaves_torch_s_own_alone(generated: Log) -> None:
    log = training_log(ExampleBuilder(generated, DataConfig(k_core=1)), 80)
    torch.manual_seed(5)
    once, _ = fit(SASRec, log, QUICK, CPU)
    drawn = torch.rand(1)
    torch.manual_seed(6)
    again, _ = fit(SASRec, log, QUICK, CPU)
    other, _ = fit(SASRec, log, QUICK.model_copy(update={"seed": 1}), CPU)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    for name, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(once.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("split", ["leave-last-two", "user", "time"])
def test_held_out_interactions_leave_the_weights_alone(generated: Log, split: str) -> None:
    """Every item past a user's horizon is swapped for another: the fitted weights stay the same to the bit."""
    config = DataConfig(k_core=1, split=split)
    examples = ExampleBuilder(generated, config)
    table, horizon = examples.interactions, examples.split.horizon
    held_out = np.arange(len(table)) >= horizon
    assert held_out.sum() > 300
    for name in ("validation", "test"):
        assert held_out[examples.split.targets[name]].all()
    item = table["item"].to_numpy().copy()
    item[held_out] = swapped(table["user"].to_numpy(), item, held_out)
    changed = dataclasses.replace(generated, interactions=table.set_column(1, table.schema.field(1), pa.array(item)))
    fitted = [
        fit(SASRec, training_log(ExampleBuilder(log, config), 80), QUICK, CPU)[0].state_dict()
        for log in (generated, changed)
    ]
    for name, value in fitted[0].items():
        assert torch.equal(value, fitted[1][name])


def swapped(user: np.ndarray, item: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """For each held-out row an item that its user never met, so that no interaction becomes a repeated one."""
    rng = np.random.default_rng(0)
    result = []
    taken = {u: set(item[user == u]) for u in np.unique(user)}
    for u in user[held_out]:
        fresh = rng.choice(sorted(set(range(80)) - taken[u]))
        taken[u].add(fresh)
        result.append(fresh)
    return np.array(result, dtype=item.dtype)


def test_cold_users_and_items_are_left_out(generated: Log) -> None:
    whole = training_log(ExampleBuilder(generated, DataConfig(k_core=1)), 80)
    examples = ExampleBuilder(generated, DataConfig(k_core=1, cold_users=0.2, cold_items=0.2))
    warm = training_log(examples, 80)
    assert len(np.unique(warm.user)) < 0.9 * len(np.unique(whole.user))
    assert len(np.unique(warm.item)) < 0.9 * len(np.unique(whole.item))
    assert np.array_equal(np.bincount(warm.item, minlength=80), examples.train_counts)


def test_a_saved_model_is_the_same_model(tmp_path, generated: Log) -> None:
    model, _ = fit(SASRec, training_log(ExampleBuilder(generated, DataConfig(k_core=1)), 80), QUICK, CPU)
    model.save(tmp_path / "model")
    again = load_recommender(tmp_path / "model")
    assert again.config == QUICK
    assert torch.equal(again.score([[1, 2]], np.array([[3, 4]])), model.score([[1, 2]], np.array([[3, 4]])))


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        fit(SASRec, TrainingLog(np.array([0, 1]), np.array([0, 1]), 2), QUICK, CPU)


@pytest.mark.parametrize(
    "settings", [{"dimension": 10, "heads": 3}, {"share": 0}, {"share": 1.5}, {"recommender": "x"}]
)
def test_refused_settings(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Sasrec.model_validate(settings)
