"""Other orders of the same candidates: scored as a whole prompt is, cheaper, and a planted position bias is found."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats

from raypref.config.data import PromptConfig
from raypref.data.encoding import encode_prompts
from raypref.data.prompts import PromptRenderer
from raypref.data.tokens import ExampleTokenizer
from raypref.evaluation.metrics import per_user
from raypref.evaluation.order_metrics import averaged_hit, follows_item, follows_place, hit_in_fifth, place_gap
from raypref.evaluation.orders import common_length, permutations, score_orders
from raypref.models import backbone
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import VOCABULARY, make_model

TITLES = [f"the {a} {b}" for a in ("red", "blue", "old", "new", "last") for b in ("river", "tower", "night", "song")]


def example(user: int = 3, history: int = 12) -> pa.Table:
    return pa.table(
        {
            "example": np.array([user + 40], dtype=np.int64),
            "user": np.array([user], dtype=np.int32),
            "history": [list(range(history))],
            "history_rating": [[4.0] * history],
            "candidates": [list(range(20))],
            "target": np.array([2], dtype=np.int32),
        }
    )


def test_orders_spread_each_candidate_over_the_list():
    orders = permutations(3, example(), 8)
    assert orders.shape == (7, 20)
    assert all(sorted(order) == list(range(20)) for order in orders.tolist())
    places = np.argsort(orders, axis=1)
    halves = (places < 10).mean(axis=0)
    assert halves.min() > 0.25
    assert halves.max() < 0.75
    assert (permutations(3, example(), 8) == orders).all()
    assert (permutations(4, example(4), 8) != orders).any()


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral with a window"])
def test_the_shared_beginning_changes_no_score(family):
    model = make_model(family, lora=False)
    rng = np.random.default_rng(0)
    history = rng.integers(3, VOCABULARY, 17).tolist()
    titles = [[*rng.integers(3, VOCABULARY, n).tolist(), 2] for n in (1, 3, 2, 4)]
    orders = [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]]
    prompts = [history + [t for c in order for t in titles[c][:-1]] + [4] for order in orders]
    tokens = pa.table({"prompt_ids": prompts, "title_ids": [[titles[c] for c in order] for order in orders]})
    scorer = TitleScorer(model.eval())
    with torch.no_grad():
        whole = scorer(title_batch(prompts, tokens["title_ids"].to_pylist(), 0, scorer.rows()))
    assert common_length(prompts) >= 17
    assert score_orders(scorer, tokens, 0) == pytest.approx(whole.float().numpy(), abs=2e-5)


def tokens_read(prompts: Sequence[Sequence[int]], titles: Sequence[Sequence[Sequence[int]]]) -> tuple[int, int]:
    """Tokens that the first of an example's orders costs, and those of all, the shared beginning counted twice."""
    inputs = [len(p) + sum(len(t) - 1 for t in ts) for p, ts in zip(prompts, titles)]
    shared = common_length(prompts[1:]) if len(prompts) > 1 else 0
    return inputs[0], inputs[0] + shared + sum(inputs[1:]) - shared * (len(prompts) - 1)


def test_eight_orders_of_a_long_history_cost_less_than_four_times_one():
    """A vocabulary in which a title is about one token, as `raypref adapt` makes it, and 20 rated items of history."""
    texts = [f"{title}\n" for title in TITLES * 3]
    tokenizer = backbone.train_tokenizer(iter(texts), 600)
    tokenize = ExampleTokenizer(tokenizer, PromptRenderer(PromptConfig(), "movie", True), TITLES, 4096)
    one = example(history=20)
    orders = permutations(3, one, 8)
    shown = [np.array(one["candidates"][0].as_py())[order] for order in orders]
    tables = [one, *(one.set_column(4, "candidates", pa.array([list(s)], one.schema.field(4).type)) for s in shown)]
    tokens = [tokenize(table) for table in tables]
    prompts = [t["prompt_ids"][0].as_py() for t in tokens]
    first, all_of_them = tokens_read(prompts, [t["title_ids"][0].as_py() for t in tokens])
    assert all_of_them < 4 * first
    assert len(encode_prompts(tokenizer, ["x"], None)) == 1


def rows(places: np.ndarray, logps: np.ndarray, target: np.ndarray) -> pa.Table:
    """Rows of (n, N, C), the first order being the example's own."""
    return pa.table(
        {
            "logps": list(logps[:, 0]),
            "target": target.astype(np.int32),
            "candidates": [list(range(logps.shape[2]))] * len(logps),
            "order_places": [of.tolist() for of in places[:, 1:]],
            "order_logps": [of.tolist() for of in logps[:, 1:]],
        }
    )


def test_metrics_by_hand():
    """Two orders of four candidates. User 0 always picks candidate 1; user 1 always what stands first."""
    places = np.array([[[0, 1, 2, 3], [3, 2, 1, 0]]] * 2)
    by_item = np.array([[0, 5, 0, 0], [0, 5, 0, 0]], dtype=float)
    by_place = np.array([[5, 0, 0, 0], [0, 0, 0, 5]], dtype=float)
    table = rows(places, np.stack([by_item, by_place]), np.array([1, 0]))
    assert follows_item(table).tolist() == [1, 0]
    assert follows_place(table).tolist() == [0, 1]
    assert place_gap(table).tolist() == [0, 1]
    assert averaged_hit(table).tolist() == [1, 0]  # user 1's two favourites tie, and a tie is never right
    assert hit_in_fifth(table, 1)[1] == 1
    assert np.isnan(hit_in_fifth(table, 3)[1])


@functools.cache
def spread_places(users: int, orders: int) -> np.ndarray:
    """(users, orders, 20) where candidates stand."""
    return np.argsort(np.stack([permutations(u, example(u), orders + 1) for u in range(users)]), axis=2)


def planted(rng: np.random.Generator, gap: float, users: int = 943, orders: int = 8, width: int = 20) -> pa.Table:
    """Users who find the target more often by `gap` where it stands in the first half, two orders disagreeing often."""
    places = spread_places(users, orders)
    target = rng.integers(0, width, users)
    place = np.take_along_axis(places, target[:, None, None], 2)[:, :, 0]
    taste = np.sqrt(0.9) * rng.standard_normal((users, 1)) + np.sqrt(0.1) * rng.standard_normal((users, orders))
    rate = 0.35 + np.where(place < width / 2, gap / 2, -gap / 2)
    logps = rng.normal(0, 1, (users, orders, width))
    top = np.where(taste < stats.norm.ppf(rate), 9.0, -9.0)
    np.put_along_axis(logps, target[:, None, None].repeat(orders, 1), top[:, :, None], 2)
    return rows(places, logps, target)


def found(table: pa.Table) -> bool:
    gaps = place_gap(table)
    gaps = gaps[np.isfinite(gaps)]
    return bool(abs(gaps.mean()) > stats.norm.ppf(0.975) * gaps.std(ddof=1) / np.sqrt(len(gaps)))


@pytest.mark.measures
def test_a_bias_of_0_03_is_found_by_eight_orders_of_943_users():
    """Power over planted evaluations; and no bias is found where there is none."""
    rng = np.random.default_rng(1)
    assert np.mean([found(planted(rng, 0.03)) for _ in range(20)]) >= 0.95
    assert np.mean([found(planted(rng, 0.0)) for _ in range(20)]) <= 0.2


def test_rows_with_orders_have_the_metrics():
    rng = np.random.default_rng(2)
    table = planted(rng, 0.03, users=20)
    nulls = pa.nulls(20, pa.string())
    more = {"split": ["test"] * 20, "rank": np.ones(20, np.int32), "answer": nulls, "beams": nulls}
    more |= {"logpop": [[0.0] * 20] * 20, "history_logpop": np.zeros(20, np.float32)}
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    assert {"orders_hr@1", "place_gap", "place_1_hr@1", "place_5_hr@1", "follows_place"} <= set(per_user(table))
