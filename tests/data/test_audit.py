"""The audit finds a planted leak and finds none where there is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raypref.config.data import CutConfig
from raypref.config.sources import GeneratedSource
from raypref.data.audit import audit, leak_warning, wilson
from raypref.data.examples import ExampleBuilder
from raypref.data.schema import EXAMPLES
from raypref.data.sources import SOURCES

WIDTH, ITEMS = 10, 60


def lists(rng: np.random.Generator, n: int, place_of: np.ndarray | None) -> pa.Table:
    """Lists of random items; the target at random, or where `place_of` has it for each item."""
    candidates = np.array([rng.choice(ITEMS, WIDTH, replace=False) for _ in range(n)])
    target = rng.integers(WIDTH, size=n)
    if place_of is not None:
        chosen = candidates[np.arange(n), target]
        at = place_of[chosen]
        candidates[np.arange(n), target] = candidates[np.arange(n), at]
        candidates[np.arange(n), at], target = chosen, at
    empty = [[0.0] * WIDTH] * n
    columns = {name: pa.array([[0]] * n) for name in ("history",)} | {"history_rating": [[3.0]] * n}
    columns |= dict.fromkeys(("rating", "latency", "latency_days"), empty)
    columns |= {name: np.arange(n) for name in ("example", "user", "position", "timestamp")}
    columns |= {"candidates": candidates.tolist(), "target": target}
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in EXAMPLES}, schema=EXAMPLES)


TITLES = pa.array([f"title {'x' * i}" for i in range(ITEMS)])


def shares(train: pa.Table, test: pa.Table) -> dict[str, tuple[float, bool]]:
    return {g.name: (g.share, g.leaks) for g in audit([train], [test], TITLES)}


def test_places_seeded_by_target_are_found():
    rng = np.random.default_rng(0)
    place_of = rng.integers(WIDTH, size=ITEMS)
    found = shares(lists(rng, 4000, place_of), lists(rng, 1000, place_of))
    share, leaks = found["remembered position"]
    expected = (1 - 0.9**WIDTH) / (WIDTH * 0.1)  # the target matches; so does each other by 1/10; ties are shared
    assert share == pytest.approx(expected, abs=0.04)
    assert leaks


def test_honest_lists_give_chance():
    rng = np.random.default_rng(1)
    found = shares(lists(rng, 4000, None), lists(rng, 4000, None))
    for name in ("position", "remembered position", "popularity", "title length"):
        assert found[name][0] == pytest.approx(1 / WIDTH, abs=0.02)
        assert not found[name][1]


def test_a_constant_place_is_found():
    rng = np.random.default_rng(2)
    always = np.full(ITEMS, 3)
    assert shares(lists(rng, 200, always), lists(rng, 200, always))["position"] == (1.0, True)


def test_by_hand():
    """Two lists: item 0 is always right at place 0; then it stands at place 1."""
    rng = np.random.default_rng(3)
    table = lists(rng, 2, None)
    candidates = [[0, *range(1, WIDTH)], [1, 0, *range(2, WIDTH)]]
    table = table.set_column(6, EXAMPLES.field("candidates"), pa.array(candidates, EXAMPLES.field("candidates").type))
    train = table.slice(0, 1).set_column(7, EXAMPLES.field("target"), pa.array([0], pa.int32()))
    test = table.slice(1, 1).set_column(7, EXAMPLES.field("target"), pa.array([1], pa.int32()))
    guesses = {g.name: g.share for g in audit([train], [test], TITLES)}
    assert guesses["popularity"] == 1.0  # only item 0 was ever a target
    assert guesses["position"] == 0.0  # place 0 was right


def test_wilson_by_hand():
    low, high = wilson(0.5, 100, z=1.96)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_our_own_examples_pass(caplog):
    log = SOURCES["generated"](GeneratedSource(users=400, items=150, mean_length=20, seed=3))
    builder = ExampleBuilder(log, CutConfig(target="next"))
    guesses = audit(builder.shards("train"), builder.shards("test"), log.items["title"])
    assert leak_warning(guesses, "ours") is None
    assert all(g.chance == pytest.approx(1 / 20) for g in guesses)
