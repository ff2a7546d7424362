"""GRU4Rec, Caser and the floors: what they may look at, one step by hand, and that a group fits as one does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from raypref.config import recommender as configs
from raypref.config.data import DataConfig
from raypref.config.recommender import FittedConfig
from raypref.config.sources import GeneratedSource
from raypref.data.examples import ExampleBuilder
from raypref.data.sources import SOURCES
from raypref.recommenders import (
    RECOMMENDERS,
    Group,
    SequentialRecommender,
    TrainingLog,
    fitted,
    load_recommender,
    training_log,
    validation_questions,
)
from raypref.recommenders.fitting import ndcg
from raypref.recommenders.log import Questions

CPU = torch.device("cpu")
SHARED = {"dimension": 8, "max_length": 8, "dropout": 0.0}
CONFIGS: dict[str, FittedConfig] = {
    "gru4rec": configs.Gru4rec(**SHARED),
    "caser": configs.Caser(**SHARED, window=3, horizontal=2, vertical=2),
    "sasrec": configs.Sasrec(**SHARED),
}


def random_model(name: str, items: int = 30) -> SequentialRecommender:
    torch.manual_seed(0)
    model = RECOMMENDERS[name](CONFIGS[name], items).eval()
    assert isinstance(model, SequentialRecommender)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
        model.embedding.weight[items] = 0
    return model


@pytest.mark.parametrize(("name", "reach"), [("gru4rec", 6), ("caser", 3)])
def test_a_place_reads_its_own_past_as_far_as_it_reaches(name: str, reach: int) -> None:
    """By the gradient, as ReLU may hide a change: place p depends on the items p - reach + 1 ... p alone."""
    model = random_model(name)
    seen = {}
    model.embedding.register_forward_hook(lambda module, given, made: seen.update(x=made.requires_grad_()))
    out = model.encode(torch.tensor([[3, 1, 4, 15, 9, 2]]))
    offset = seen["x"].shape[1] - 6  # Caser pads on the left
    for place in range(6):
        (gradient,) = torch.autograd.grad(out[0, place].sum(), seen["x"], retain_graph=True)
        reads = gradient[0, offset:].abs().sum(dim=-1) > 0
        assert reads.tolist() == [place - reach < other <= place for other in range(6)], place


@pytest.mark.parametrize("name", ["gru4rec", "caser"])
def test_padding_changes_nothing(name: str) -> None:
    model = random_model(name)
    short, long = np.array([5, 6, 7]), np.arange(12)
    together = model.sequence_embedding([short, long])
    torch.testing.assert_close(together[0], model.sequence_embedding([short])[0])
    torch.testing.assert_close(together[1], model.sequence_embedding([long[-8:]])[0])
    assert model.sequence_embedding([np.array([], dtype=int)]).isfinite().all()


def test_gru_by_hand() -> None:
    """One step from a state of 0: `(1 - z) n`, `z = s(W_z x + b_z + c_z)`, `n = tanh(W_n x + b_n + r c_n)`."""
    model = random_model("gru4rec")
    cell = model.recurrent
    x = model.embedding.weight[7]
    own, other = cell.weight_ih_l0 @ x + cell.bias_ih_l0, cell.bias_hh_l0
    r, z = torch.sigmoid(own[:8] + other[:8]), torch.sigmoid(own[8:16] + other[8:16])
    expected = (1 - z) * torch.tanh(own[16:] + r * other[16:])
    torch.testing.assert_close(model.sequence_embedding([np.array([7])])[0], expected.detach())


def test_caser_by_hand() -> None:
    """Filters laid over the image of one window, place by place."""
    model = random_model("caser")
    image = model.embedding.weight[[5, 6, 7]].detach()  # (3, D)
    features = []
    for h, conv in enumerate(model.horizontal, start=1):
        slid = [
            torch.relu((conv.weight * image[top : top + h].T).sum(dim=(1, 2)) + conv.bias) for top in range(3 - h + 1)
        ]
        features.append(torch.stack(slid).amax(dim=0))
    vertical = zip(model.vertical.weight, model.vertical.bias)
    weighed = [(weight[0][:, None] * image).sum(dim=0) + bias for weight, bias in vertical]
    features.append(torch.stack(weighed, dim=1).flatten())
    expected = torch.relu(model.join(torch.cat(features)))
    torch.testing.assert_close(model.sequence_embedding([np.array([4, 5, 6, 7])])[0], expected.detach())


@pytest.fixture(scope="module")
def examples() -> ExampleBuilder:
    return ExampleBuilder(SOURCES["generated"](GeneratedSource(users=250, items=80)), DataConfig(k_core=1))


@pytest.mark.parametrize("name", ["gru4rec", "caser"])
def test_they_beat_popularity_on_held_out_users(examples: ExampleBuilder, name: str) -> None:
    config = CONFIGS[name].model_copy(
        update={"dimension": 32, "batch": 64, "epochs": 25, "patience": 25, "learning_rate": 5e-3, "l2": (1e-5,)}
    )
    log, questions = training_log(examples, 80), validation_questions(list(examples.shards("validation")))
    assert questions is not None
    model, facts = fitted(config, log, CPU, questions)
    floor, _ = fitted(configs.Popularity(), log, CPU)
    table = next(examples.shards("test"))
    candidates, target = np.array(table["candidates"].to_pylist()), table["target"].to_numpy()
    right, popular = (
        (m.score(table["history"].to_pylist(), candidates).numpy().argmax(axis=1) == target).mean()
        for m in (model, floor)
    )
    assert facts["kept_back"] == 0  # validation says when to stop: nothing is kept back
    assert right > popular + 0.04, (right, popular, facts)


def test_the_penalty_is_the_one_that_ranks_best(examples: ExampleBuilder) -> None:
    log, questions = training_log(examples, 80), validation_questions(list(examples.shards("validation")))
    assert questions is not None
    config = CONFIGS["gru4rec"].model_copy(update={"epochs": 6, "batch": 64, "learning_rate": 1e-2, "l2": (1.0, 1e-5)})
    model, facts = fitted(config, log, CPU, questions)
    assert facts["l2"] == 1e-5
    assert facts["tried"]["1e-05"] > facts["tried"]["1"]
    assert isinstance(model, SequentialRecommender)
    assert ndcg(model, questions) == pytest.approx(facts["kept_back_ndcg@10"])
    alone, _ = fitted(config.model_copy(update={"l2": (1e-5,)}), log, CPU, questions)
    for name, value in model.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name])


def test_questions_over_lists_count_the_list_alone() -> None:
    model = random_model("gru4rec")
    history, lists = np.array([1, 2]), np.array([[3, 4, 5, 6]])
    order = model.score([history], lists)[0].argsort(descending=True).numpy()
    for place in range(4):
        answer = lists[0, order[[place]]].astype(np.int64)
        assert ndcg(model, Questions([history], answer, lists)) == pytest.approx(1 / np.log2(place + 2))


def test_floors() -> None:
    log = TrainingLog(np.array([0, 0, 1]), np.array([2, 1, 2]), 4)
    popular, _ = fitted(configs.Popularity(), log, CPU)
    assert popular.score([[0]], np.array([[0, 1, 2, 3]])).tolist() == [[0, 1, 2, 0]]
    lists = np.random.default_rng(0).permuted(np.tile(np.arange(40), (4000, 1)), axis=1)[:, :20]
    one, two = (fitted(configs.Random(seed=seed), log, CPU)[0].score([[]] * 4000, lists).numpy() for seed in (0, 1))
    assert not np.array_equal(one, two)
    first = np.bincount(one.argmax(axis=1), minlength=20)
    assert (np.abs(first - 200) < 5 * np.sqrt(200 * 0.95)).all()  # each place as often as any other


@pytest.mark.parametrize("name", [*CONFIGS, "popularity", "random"])
def test_a_saved_model_is_the_same_model(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name] if name in CONFIGS else {"popularity": configs.Popularity, "random": configs.Random}[name]()
    model = RECOMMENDERS[name](config, 30).eval()
    model.save(tmp_path / "model")
    again = load_recommender(tmp_path / "model")
    assert again.config == config
    assert torch.equal(again.score([[1, 2]], np.array([[3, 4]])), model.score([[1, 2]], np.array([[3, 4]])))


def _fit_in_a_group(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model, facts = fitted(GROUPED, small_log(), CPU, None, Group(rank, 2))
    if rank == 0:
        model.save(Path(folder) / "model")
        (Path(folder) / "facts.json").write_text(json.dumps(facts))
    dist.destroy_process_group()


GROUPED = configs.Gru4rec(**SHARED, epochs=2, batch=7, l2=(1e-5,))


def small_log() -> TrainingLog:
    rng = np.random.default_rng(0)
    return TrainingLog(np.repeat(np.arange(43), 6), rng.integers(0, 20, 43 * 6), 20)


@pytest.mark.slow
def test_two_processes_fit_what_one_fits(tmp_path: Path) -> None:
    """Of the last batch of 1 row one of the two has none."""
    mp.spawn(_fit_in_a_group, (str(tmp_path),), nprocs=2)
    alone, facts = fitted(GROUPED, small_log(), CPU)
    together = load_recommender(tmp_path / "model")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert json.loads((tmp_path / "facts.json").read_text())["best_epoch"] == facts["best_epoch"]
