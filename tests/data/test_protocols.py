"""The papers' protocols: what is filtered, what is a target, what a training example may know."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings

from raypref.config.data import CandidateConfig, CutConfig
from raypref.data.canonical import canonical
from raypref.data.examples import ExampleBuilder
from raypref.data.filtering import first_meetings, k_core, ratings
from raypref.data.schema import INTERACTIONS, Log
from raypref.data.splitting import PROBES, SPLITS
from raypref.errors import UserError

SMALL = CandidateConfig(train_future=4, train_random=3, eval_random=5)


def make_log(
    rows: list[tuple[int, int, float | None, int | None]], items: int, count: list[float] | None = None
) -> Log:
    """A log of (user, item, rating, time)."""
    user, item, rating, time = zip(*rows)
    return canonical(
        "test",
        "movie",
        pa.table(
            {
                "user_id": [f"u{u:03d}" for u in user],
                "item_id": [f"i{i:03d}" for i in item],
                "rating": pa.array(rating, pa.float32()),
                "count": pa.array(count, pa.float32()) if count else pa.nulls(len(rows), pa.float32()),
                "timestamp": pa.array(time, pa.int64()),
            }
        ),
        pa.table(
            {
                "item_id": [f"i{i:03d}" for i in range(items)],
                "title": [f"title {i}" for i in range(items)],
                "metadata": pa.nulls(items, pa.string()),
            }
        ),
    )


def random_log(seed: int, users: int = 30, items: int = 40, longest: int = 16, repeats: bool = False) -> Log:
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        n = int(rng.integers(2, longest + 1))
        chosen = rng.choice(items, n, replace=repeats)
        times = np.sort(rng.integers(0, 50, n)) * 1000  # many ties
        rows += [(user, int(i), float(rng.integers(1, 6)), int(t)) for i, t in zip(chosen, times)]
    return make_log(rows, items)


def rows_of(builder: ExampleBuilder, name: str) -> list[dict]:
    return [row for shard in builder.shards(name) for row in shard.to_pylist()]


def build(log: Log, config: CutConfig) -> ExampleBuilder:
    try:
        return ExampleBuilder(log, config)
    except UserError as error:
        assume("no example is left" not in str(error) and "to sample from" not in str(error))
        raise


configs = st.builds(
    CutConfig,
    k_core=st.integers(1, 3),
    split=st.sampled_from(["leave-last-two", "user", "time"]),
    target=st.sampled_from(["recpo", "next", "utility"]),
    held_out_targets=st.sampled_from(["last", "all"]),
    cold_users=st.sampled_from([0.0, 0.2]),
    cold_items=st.sampled_from([0.0, 0.2]),
    min_history=st.integers(1, 3),
    max_history=st.integers(1, 6),
    max_train_examples_per_user=st.sampled_from([None, 2]),
    candidates=st.just(SMALL),
    seed=st.integers(0, 5),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), repeats=st.booleans(), config=configs)
def test_no_training_example_knows_what_comes_later(seed, repeats, config):
    log = random_log(seed, repeats=repeats)
    builder = build(log, config)
    user, item, rating = builder.user, builder.item, builder.rating
    position_of = {(u, i): p for u, i, p in zip(user.tolist(), item.tolist(), builder.position.tolist())}
    rating_of = {(u, i): r for u, i, r in zip(user.tolist(), item.tolist(), rating.tolist())}
    held_out = {
        (row["user"], row["candidates"][row["target"]])
        for name in (*SPLITS[1:], *PROBES)
        for row in rows_of(builder, name)
    }
    for row in rows_of(builder, "train"):
        u, cut = row["user"], row["position"]
        assert len(row["history"]) >= min(config.min_history, config.max_history)
        for i, r in zip(row["history"], row["history_rating"]):
            assert position_of[u, i] < cut
            assert r == rating_of[u, i]
        assert [position_of[u, i] for i in row["history"]] == sorted(position_of[u, i] for i in row["history"])
        assert not held_out & {(u, i) for i in (*row["history"], *row["candidates"])}
        assert len(set(row["candidates"])) == len(row["candidates"])
        assert not set(row["candidates"]) & set(row["history"])
        if config.target != "utility":
            assert position_of[u, row["candidates"][row["target"]]] == cut
        for i, r, latency in zip(row["candidates"], row["rating"], row["latency"]):
            if (u, i) in position_of:  # the user's own: a later item, or the target
                assert r == rating_of[u, i]
                assert latency >= 1
                if not config.cold_items:
                    assert latency == position_of[u, i] - cut + 1
            else:
                assert np.isnan(r)
                assert np.isnan(latency)
        if config.target != "next":
            assert row["rating"][row["target"]] >= 4
        if config.target == "utility":
            useful = np.array(row["rating"]) / np.sqrt(row["latency"])
            assert row["target"] == np.nanargmax(useful) or useful[row["target"]] == np.nanmax(useful)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), config=configs)
def test_evaluation_lists_hold_one_own_item_among_never_met_ones(seed, config):
    builder = build(random_log(seed), config)
    met = set(zip(builder.user.tolist(), builder.item.tolist()))
    for name in ("validation", "test", "avoidance", "cold-user", "cold-item"):
        for row in rows_of(builder, name):
            assert len(row["candidates"]) == SMALL.eval_random + 1
            own = [i for i in row["candidates"] if (row["user"], i) in met]
            assert own == [row["candidates"][row["target"]]]


def test_leave_last_two_takes_the_last_two_liked():
    rows = [(0, i, r, i) for i, r in enumerate([5, 5, 5, 4, 5, 1, 4, 2, 5, 3])]
    rows += [(1, i, 5, i) for i in range(10)] + [(2, i, 3, i) for i in range(10, 30)]
    builder = ExampleBuilder(make_log(rows, 30), CutConfig(k_core=1, candidates=SMALL))
    at = {name: [(r["user"], r["position"]) for r in rows_of(builder, name)] for name in SPLITS}
    assert at["test"] == [(0, 8), (1, 9)]
    assert at["validation"] == [(0, 6), (1, 8)]
    assert sorted(at["train"]) == [(0, 3), (0, 4)] + [(1, p) for p in range(3, 8)]


def test_utility_asks_for_the_most_useful_of_what_comes():
    """Ratings 3, 2, 5, 4 from position 3 on: 3, 2 / 2^.5, 5 / 3^.5 = 2.89, 4 / 2 = 2: the next, rated 3, is no target.

    From position 4: 2, 5 / 2^.5 = 3.5, 4 / 3^.5: the item at 5. From 5: 5, 2.8: itself. From 6: 4, then what is held
    out: itself.
    """
    rows = [(0, i, r, i) for i, r in enumerate([5, 5, 5, 3, 2, 5, 4, 1, 2])]
    rows += [(1, i, 3, i) for i in range(9, 30)]
    config = CutConfig(k_core=1, target="utility", candidates=SMALL)
    builder = ExampleBuilder(make_log(rows, 30), config)
    train = {r["position"]: r["candidates"][r["target"]] for r in rows_of(builder, "train") if r["user"] == 0}
    assert train == {4: 5, 5: 5, 6: 6}
    assert [r["candidates"][r["target"]] for r in rows_of(builder, "test") if r["user"] == 0] == [8]
    limited = config.model_copy(update={"max_train_examples_per_user": 2})
    kept = rows_of(ExampleBuilder(make_log(rows, 30), limited), "train")
    assert sorted(r["position"] for r in kept if r["user"] == 0) == [5, 6]


def test_user_split_holds_out_whole_users():
    log = random_log(3)
    for held_out in ("last", "all"):
        config = CutConfig(k_core=1, split="user", target="next", candidates=SMALL, held_out_targets=held_out)
        builder = ExampleBuilder(log, config)
        users = {name: [row["user"] for row in rows_of(builder, name)] for name in SPLITS}
        sets = [set(users[name]) for name in SPLITS]
        assert not sets[0] & sets[1]
        assert not (sets[0] | sets[1]) & sets[2]
        assert (len(users["test"]) == len(sets[2])) == (held_out == "last")


@pytest.mark.parametrize("users", [1, 2])
def test_too_few_users_for_a_split_by_users_are_refused_and_the_hint_cuts_them(users):
    log = random_log(3)
    few = dataclasses.replace(
        log, interactions=log.interactions.filter(pa.compute.less(log.interactions["user"], users))
    )
    config = CutConfig(k_core=1, split="user", target="next", candidates=SMALL)
    with pytest.raises(UserError, match=f"too few users for a split by users: {users}, and 3 are needed") as refused:
        ExampleBuilder(few, config)
    assert "--data.split leave-last-two (in YAML: data: {split: leave-last-two})" in refused.value.hint


def test_time_split_is_one_cut_for_all():
    builder = ExampleBuilder(random_log(4), CutConfig(k_core=1, split="time", target="next", candidates=SMALL))
    times = {name: [row["timestamp"] for row in rows_of(builder, name)] for name in SPLITS}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])


def test_k_core_is_a_fixed_point_and_the_largest():
    log = random_log(5, longest=12)
    core = k_core(log.interactions, 4)
    user, item = core["user"].to_numpy(), core["item"].to_numpy()
    assert np.bincount(user)[user].min() >= 4
    assert np.bincount(item)[item].min() >= 4
    rows = set(zip(*(log.interactions[c].to_pylist() for c in ("user", "item"))))
    while True:  # the definition, by sets
        keep = {(u, i) for u, i in rows if sum(a == u for a, _ in rows) >= 4 and sum(b == i for _, b in rows) >= 4}
        if keep == rows:
            break
        rows = keep
    assert rows == set(zip(user.tolist(), item.tolist()))
    with pytest.raises(UserError, match="at least 100 interactions"):
        k_core(log.interactions, 100)


def test_repeated_meetings_count_once():
    log = make_log([(0, 1, 5, 1), (0, 2, 4, 2), (0, 1, 1, 3), (1, 1, 3, 0)], 3)
    once = first_meetings(log.interactions)
    assert once["rating"].to_pylist() == [5, 4, 3]
    assert once["position"].to_pylist() == [0, 1, 0]
    assert once.schema == INTERACTIONS


def test_percentile_ratings_by_item():
    counts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] + [7, 7, 7, 7, 100]
    rows = [(u, 0, None, u) for u in range(10)] + [(u, 1, None, u) for u in range(5)]
    log = make_log(rows, 2, counts)
    table = log.interactions
    by_item = {
        i: ratings(table)[table["item"].to_numpy() == i][
            np.argsort(table["count"].to_numpy()[table["item"].to_numpy() == i])
        ]
        for i in (0, 1)
    }
    assert by_item[0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]  # the top 20 % is 5
    assert by_item[1].tolist() == [4, 4, 4, 4, 5]  # equal counts share the better place


@pytest.mark.parametrize("split", ["leave-last-two", "user", "time"])
@pytest.mark.parametrize("target", ["recpo", "next"])
def test_adherence_lists_hold_later_liked_items_and_the_nearest_is_right(split, target):
    """Whatever else may be a target."""
    config = CutConfig(k_core=1, split=split, target=target, held_out_targets="all", candidates=SMALL)
    rows = rows_of(ExampleBuilder(random_log(6, users=60), config), "adherence")
    assert rows
    for row in rows:
        liked = [latency for latency, r in zip(row["latency"], row["rating"]) if r >= 4]
        assert len(liked) == 2
        assert row["latency"][row["target"]] == min(liked) == 1


def test_without_ratings_adherence_asks_for_the_nearest_of_what_comes():
    rows = [(u, (u + 3 * i) % 40, None, i) for u in range(20) for i in range(8)]
    config = CutConfig(k_core=1, target="next", candidates=SMALL)
    found = rows_of(ExampleBuilder(make_log(rows, 40), config), "adherence")
    assert len(found) == 20
    for row in found:
        assert sorted(latency for latency in row["latency"] if latency == latency) == [1, 2]
        assert row["latency"][row["target"]] == 1


def test_avoidance_and_aversion_ask_about_a_disliked_item():
    builder = ExampleBuilder(random_log(7), CutConfig(k_core=1, candidates=SMALL))
    for name in ("avoidance", "aversion"):
        rows = rows_of(builder, name)
        assert rows
        for row in rows:
            assert row["rating"][row["target"]] <= 2
            assert (sum(r >= 4 for r in row["rating"]) > 0) == (name == "aversion")


def test_cold_sets_hold_what_training_never_saw():
    config = CutConfig(k_core=1, target="next", candidates=SMALL, cold_users=0.2, cold_items=0.2)
    builder = ExampleBuilder(random_log(8, users=60), config)
    users, items = set(), set()
    for row in rows_of(builder, "train"):
        users.add(row["user"])
        items |= {*row["history"], *row["candidates"]}
    assert items == set(np.flatnonzero(builder.train_counts)) | items
    cold_users, cold_items = (rows_of(builder, name) for name in ("cold-user", "cold-item"))
    assert cold_users
    assert cold_items
    assert not users & {row["user"] for row in cold_users}
    assert not items & {row["candidates"][row["target"]] for row in cold_items}


def test_same_seed_same_examples_and_order_is_none_of_the_targets():
    log = random_log(9)
    config = CutConfig(k_core=1, target="next", candidates=SMALL)
    one, two = (pa.concat_tables(ExampleBuilder(log, config).shards("train")) for _ in range(2))
    assert str(one.to_pylist()) == str(two.to_pylist())  # as text, where NaN equals NaN
    other = pa.concat_tables(ExampleBuilder(log, config.model_copy(update={"seed": 1})).shards("train"))
    assert str(one.to_pylist()) != str(other.to_pylist())
    unshuffled = pa.concat_tables(ExampleBuilder(log, config).shards("train", shuffle=False)).to_pylist()
    assert [(r["user"], r["position"]) for r in unshuffled] == sorted(
        (r["user"], r["position"]) for r in one.to_pylist()
    )
    by_key = {(r["user"], r["position"]): r["candidates"] for r in one.to_pylist()}
    assert all(by_key[r["user"], r["position"]] == r["candidates"] for r in unshuffled)


def test_no_times_or_no_ratings_are_refused_with_the_way_out():
    with pytest.raises(UserError, match="no times"):
        ExampleBuilder(make_log([(0, 1, 5, None), (1, 1, 5, None)], 3), CutConfig(k_core=1))
    with pytest.raises(UserError, match="need ratings"):
        ExampleBuilder(make_log([(0, 1, None, 1), (1, 1, None, 2)], 3), CutConfig(k_core=1))
    with pytest.raises(UserError, match="to sample from"):
        ExampleBuilder(random_log(1, items=17), CutConfig(k_core=1))
