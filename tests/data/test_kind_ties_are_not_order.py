"""Ties in time are no order: neither the file's lines nor the items' ids tell which interaction came last."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from raypref.config.data import CutConfig
from raypref.config.sources import GeneratedSource, MovieLensSource
from raypref.data.examples import ExampleBuilder
from raypref.data.sources import SOURCES
from raypref.data.ties import tied_rows, ties
from tests.support.own_files import read, write

USERS, ITEMS, LENGTH, TOGETHER = 300, 80, 20, 5


def movielens(folder, order_seed: int | None, tied: bool = True):
    """Five ratings at a time in the order of the movies' ids, as MovieLens has them; lines perhaps shuffled."""
    folder.mkdir()
    draw = random.Random(3)
    rows = []
    for user in range(1, USERS + 1):
        for k, item in enumerate(draw.sample(range(1, ITEMS + 1), LENGTH)):
            minute = k // TOGETHER if tied else k
            rows.append((user, item, draw.choice([4.0, 4.5, 5.0]), 10**9 + user * 1000 + minute * 60))
    rows.sort(key=lambda row: row[:2])
    if order_seed is not None:
        random.Random(order_seed).shuffle(rows)
    write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in rows)])
    write(folder / "movies.csv", ["movieId,title,genres", *(f"{i},Film{i} (1990),Drama" for i in range(1, ITEMS + 1))])
    return SOURCES["movielens"](MovieLensSource(path=folder))


def targets(log) -> list[tuple[str, str]]:
    """User and item of each test target by raw ids."""
    builder = ExampleBuilder(log, CutConfig(k_core=1))
    users, items = log.users["user_id"].to_pylist(), log.items["item_id"].to_pylist()
    return [
        (users[row["user"]], items[row["candidates"][row["target"]]])
        for table in builder.shards("test")
        for row in table.to_pylist()
    ]


def test_targets_do_not_depend_on_the_order_of_the_lines(tmp_path):
    logs = [movielens(tmp_path / f"{seed}", seed) for seed in (None, 9, 10)]
    for log in logs[1:]:
        assert log.interactions.equals(logs[0].interactions)
    assert targets(logs[0]) == targets(logs[1])


def test_the_place_among_ties_has_nothing_to_do_with_the_id(tmp_path):
    """Of five movies at one time, each rank by id is last as often: 4 groups of 300 users, chi-squared of 4 degrees."""
    log = movielens(tmp_path / "x", None)
    item = log.interactions["item"].to_numpy()
    ids = np.array([int(i) for i in log.items["item_id"].to_pylist()])[item].reshape(-1, TOGETHER)
    rank_of_last = (ids < ids[:, -1:]).sum(axis=1)
    counts = np.bincount(rank_of_last, minlength=TOGETHER)
    wanted = len(ids) / TOGETHER
    assert ((counts - wanted) ** 2 / wanted).sum() < 18.5  # p = 0.001


def test_what_is_not_tied_keeps_its_order(tmp_path):
    log = movielens(tmp_path / "x", 5, tied=False)
    times = log.interactions["timestamp"].to_numpy().reshape(USERS, LENGTH)
    assert (np.diff(times, axis=1) > 0).all()
    assert not tied_rows(log.interactions).any()


def test_one_item_twice_at_one_time_does_not_depend_on_the_order_either(tmp_path):
    rows = [f"u{u},i{(u + k) % 7},{r},1600000000,T{(u + k) % 7}" for u in range(9) for k in range(6) for r in (1, 5)]
    tables = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        log = read(write(tmp_path / f"{seed}.csv", ["user,item,rating,timestamp,title", *rows]))
        tables.append(log.interactions)
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_without_times_the_order_of_the_file_is_kept(tmp_path):
    content = ["user,item,rating,title", *(f"u{i % 2},i{9 - i},5,T{9 - i}" for i in range(8))]
    log = read(write(tmp_path / "x.csv", content), timestamp=None)
    ids = log.items["item_id"].to_pylist()
    assert [ids[i] for i in log.interactions["item"].to_pylist()] == [f"i{n}" for n in (9, 7, 5, 3, 8, 6, 4, 2)]
    rows = read(tmp_path / "x.csv", timestamp=None, order="rows")
    assert rows.interactions["item"].equals(log.interactions["item"])
    assert rows.has_times
    assert not tied_rows(rows.interactions).any()


@pytest.mark.parametrize("users", [800, 60])
def test_the_generated_log_has_no_ties_so_its_numbers_stay(users):
    assert not tied_rows(SOURCES["generated"](GeneratedSource(users=users)).interactions).any()


def test_the_share_of_tied_targets_and_a_guesser_by_id():
    """Three users: one's target shares its time, and by 'highest id' two of three lists are right."""
    log = pa.table(
        {
            "user": pa.array([0, 0, 1, 1, 2, 2], pa.int32()),
            "timestamp": pa.array([5, 5, 1, 2, 1, 2], pa.int64()),
            "position": pa.array([0, 1, 0, 1, 0, 1], pa.int32()),
        }
    )
    examples = pa.table(
        {
            "user": pa.array([0, 1, 2], pa.int32()),
            "position": pa.array([1, 1, 1], pa.int32()),
            "candidates": [[0, 1], [2, 0], [1, 2]],
            "target": pa.array([1, 0, 0], pa.int32()),
        }
    )
    found = ties(log, [examples], pa.chunked_array([["9", "10", "11"]]))  # as text, 9 would be the highest
    assert (found.users, found.tied) == (3, 1)
    assert found.by_id == pytest.approx(2 / 3)
    assert found.chance == 0.5
    assert "33.3% of 3 users" in found.said
    assert "right in 66.7%, chance is 50.0%" in found.said
