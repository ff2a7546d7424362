"""Metrics over the whole catalog: hand-worked values, scipy, ranx, RecTools and definitions written otherwise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.spatial.distance import jaccard

from raypref.evaluation.beyond_accuracy import coverage, dgu, gini, group_unfairness, mgu, of_system
from raypref.evaluation.catalog import CATALOG_ROWS, SAID_ROWS, Catalog
from raypref.evaluation.catalog_metrics import (
    CATALOG,
    catalog_functions,
    catalog_mrr_at,
    catalog_ndcg_at,
    constrained_beam_hit_at,
    constrained_hit,
    constrained_outside,
    diversity,
    novelty,
)

ITEMS, USERS, GENRES = 60, 80, 7


def table(**columns: list) -> pa.Table:
    fields = [f for f in (*CATALOG_ROWS, *SAID_ROWS, pa.field("target_item", pa.int32())) if f.name in columns]
    return pa.table({f.name: columns[f.name] for f in fields}, schema=pa.schema(fields))


@pytest.fixture(scope="module")
def drawn() -> tuple[pa.Table, np.ndarray, list[list[int]]]:
    """Rows as `Catalog.columns` makes them of random scores, the scores with ties, and the items' genres."""
    rng = np.random.default_rng(0)
    genres = [rng.choice(GENRES, rng.integers(0, 4), replace=False).tolist() for _ in range(ITEMS)]
    counts = rng.integers(0, 40, ITEMS)
    scores = rng.integers(0, 30, (USERS, ITEMS)).astype(np.float32)
    part = pa.table({
        "user": np.arange(USERS, dtype=np.int32),
        "history": [rng.choice(ITEMS, 5, replace=False).tolist() for _ in range(USERS)],
        "candidates": [rng.choice(ITEMS, 4, replace=False).tolist() for _ in range(USERS)],
        "target": rng.integers(0, 4, USERS),
    })  # fmt: skip
    columns = Catalog(np.arange(ITEMS), counts, USERS, None, genres).columns(part, scores)
    target = [c[t] for c, t in zip(part["candidates"].to_pylist(), part["target"].to_pylist())]
    return table(**columns, target_item=target), scores, genres


def test_ranks_against_ranx(drawn: tuple[pa.Table, np.ndarray, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties are broken against the target before, as ranx leaves their order open."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    ranx = pytest.importorskip("ranx", reason="ranx is not installed")
    rows, scores, _ = drawn
    target = rows["target_item"].to_numpy()
    asked = ranx.Qrels.from_dict({str(u): {str(t): 1} for u, t in enumerate(target)})
    lower = scores - 1e-3 * np.eye(ITEMS)[target]
    run = ranx.Run.from_dict({str(u): {str(i): float(s) for i, s in enumerate(row)} for u, row in enumerate(lower)})
    names = {f"{theirs}@{k}": f"catalog_{ours}@{k}" for k in (1, 5, 10, 20)
             for theirs, ours in (("hit_rate", "hr"), ("ndcg", "ndcg"), ("mrr", "mrr"))}  # fmt: skip
    found = ranx.evaluate(asked, run, list(names))
    assert {names[n]: v for n, v in found.items()} == pytest.approx(
        {n: CATALOG[n](rows).mean() for n in names.values()}
    )


def test_lists_against_other_definitions(drawn: tuple[pa.Table, np.ndarray, list[list[int]]]) -> None:
    rows, scores, genres = drawn
    top = [np.lexsort((np.arange(ITEMS), -row))[:10] for row in scores]
    assert [row[:10] for row in rows["top"].to_pylist()] == [row.tolist() for row in top]
    counts = np.array([sum(item in row for row in top) for item in range(ITEMS)])
    assert coverage(rows) == pytest.approx(np.count_nonzero(counts) / ITEMS)
    pairwise = np.abs(counts[:, None] - counts).sum() / (2 * ITEMS**2 * counts.mean())  # the mean absolute difference
    assert gini(rows) == pytest.approx(pairwise)
    flags = np.zeros((ITEMS, GENRES), dtype=bool)
    for item, own in enumerate(genres):
        flags[item, own] = True
    for row, found in zip(top, diversity(rows)):
        known = [item for item in row if flags[item].any()]
        expected = [jaccard(flags[a], flags[b]) for a, b in itertools.combinations(known, 2)]
        assert found == pytest.approx(np.mean(expected))
    given = flags[np.concatenate(top)].sum(axis=0)
    width = len(group_unfairness(rows))
    assert width == GENRES
    assert group_unfairness(rows).sum() == pytest.approx(0)
    shown = [genre for row in rows["history_genres"].to_pylist() for item in row for genre in item]
    gap = given / given.sum() - np.bincount(shown, minlength=GENRES) / len(shown)
    assert mgu(rows) == pytest.approx(np.abs(gap).mean())
    assert dgu(rows) == pytest.approx(gap.max() - gap.min())
    assert set(of_system(rows)) == {f"catalog_{name}@10" for name in ("coverage", "gini", "mgu", "dgu")}


def test_lists_against_rectools() -> None:
    """Coverage, novelty, and diversity: the pairs and means are theirs, Jaccard's distance scipy's."""
    metrics = pytest.importorskip(
        "rectools.metrics", reason="RecTools is not installed (pip install --no-deps rectools)"
    )
    rng = np.random.default_rng(1)
    flags = rng.random((ITEMS, GENRES)) < 0.3
    flags[:, 0] |= ~flags.any(axis=1)  # RecTools would count pairs of items without genres
    counts, scores = rng.integers(0, 40, ITEMS), rng.random((USERS, ITEMS))
    asked = {"user": np.arange(USERS), "history": [[]] * USERS, "candidates": [[0]] * USERS, "target": [0] * USERS}
    catalog = Catalog(np.arange(ITEMS), counts, USERS, None, [np.flatnonzero(row).tolist() for row in flags])
    rows = table(**catalog.columns(pa.table(asked), scores))

    class Jaccard(metrics.PairwiseDistanceCalculator):  # type: ignore[misc, name-defined]
        def _get_distances_for_item_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.array([jaccard(flags[a], flags[b]) for a, b in zip(first, second)])

    top = np.argsort(-scores, axis=1)[:, :10]
    places = [np.repeat(np.arange(USERS), 10), top.ravel(), np.tile(np.arange(1, 11), USERS)]
    lists = pd.DataFrame(dict(zip(("user_id", "item_id", "rank"), places)))
    met = [(user, item) for item, count in enumerate([*counts, USERS]) for user in range(count)]  # all met the last
    before = pd.DataFrame(met, columns=["user_id", "item_id"])
    assert coverage(rows) == pytest.approx(metrics.CatalogCoverage(10, normalize=True).calc(lists, range(ITEMS)))
    np.testing.assert_allclose(novelty(rows), metrics.MeanInvUserFreq(10).calc_per_user(lists, before), rtol=1e-6)
    np.testing.assert_allclose(diversity(rows), metrics.IntraListDiversity(10, Jaccard()).calc_per_user(lists))


def test_by_hand() -> None:
    rows = table(
        catalog_items=[5, 5, 5],
        catalog_rank=[1, 3, 21],
        top=[[0, 1], [0, 2], [0, 1]],
        top_information=[[1.0, 3.0], [0.0, 0.5], []],
        top_genres=[[[0], [0, 1]], [[0], []], None],
        history_genres=[[[1]], [[1], [0]], None],
        target_stratum=[0, 2, 2],
    )
    assert catalog_ndcg_at(rows, 5).tolist() == [1.0, 0.5, 0.0]
    assert catalog_mrr_at(rows, 20).tolist() == [1.0, 1 / 3, 0.0]
    assert novelty(rows).tolist()[:2] == [2.0, 0.25]
    assert math.isnan(novelty(rows)[2])
    assert diversity(rows)[0] == 0.5  # {0} and {0, 1}
    assert np.isnan(diversity(rows)[1:]).all()  # one of two items has genres; none are known
    assert coverage(rows) == 3 / 5
    assert gini(rows) == pytest.approx((0 * -4 + 0 * -2 + 1 * 0 + 2 * 2 + 3 * 4) / (5 * 6))
    assert gini(rows, 1) == pytest.approx(4 / 5)  # one item alone
    np.testing.assert_allclose(group_unfairness(rows), [3 / 4 - 1 / 3, 1 / 4 - 2 / 3])
    assert mgu(rows) == pytest.approx(5 / 12)
    assert dgu(rows) == pytest.approx(10 / 12)
    assert CATALOG["catalog_hr@10_head"](rows).tolist()[0] == 1
    assert np.isnan(CATALOG["catalog_hr@10_head"](rows)[1:]).all()
    assert CATALOG["catalog_hr@10_tail"](rows).tolist()[1:] == [1, 0]


def test_without_genres_there_is_no_fairness() -> None:
    rows = table(catalog_items=[3], catalog_rank=[2], top=[[0, 1]], top_information=[[1.0, 1.0]], top_genres=[None],
                 history_genres=[None], target_stratum=[1])  # fmt: skip
    assert set(of_system(rows)) == {"catalog_coverage@10", "catalog_gini@10"}
    assert of_system(rows.slice(0, 0)) == {}
    assert of_system(pa.table({"rank": [1]})) == {}


def test_what_was_said_under_constraint() -> None:
    rows = table(said_item=[4, 7], said_inside=[0.0, math.log(0.25)], said_beams=[[4, 5], [1, 2]], target_item=[4, 2])
    assert constrained_hit(rows).tolist() == [1, 0]
    np.testing.assert_allclose(constrained_outside(rows), [0, 0.75], rtol=1e-6)
    assert constrained_beam_hit_at(rows, 5).tolist() == [1, 1]
    assert constrained_beam_hit_at(rows, 1).tolist() == [1, 0]
    assert set(catalog_functions(rows)) == {"constrained_hr@1", "constrained_outside", "constrained_beam_hr@5"}


def test_fame_is_parted_where_thirds_of_the_interactions_are_reached() -> None:
    catalog = Catalog(np.array([0, 1, 2, 3, 5]), np.array([1, 6, 3, 2, 99, 0]), 12)  # item 4 is not of the catalog
    assert catalog.strata()[catalog.items].tolist() == [2, 0, 1, 2, 2]
    np.testing.assert_allclose(catalog.information(), np.log2([12, 2, 4, 6, 12 / 99, 12]))


def test_ties_and_nan_stand_against_the_target() -> None:
    part = pa.table({"user": [0, 0], "history": [[0], []], "candidates": [[2, 1], [2, 1]], "target": [0, 1]})
    catalog = Catalog(np.arange(4), np.ones(4, dtype=int), 1, [np.array([3])])
    columns = catalog.columns(part, np.array([[9.0, 5, 5, 9], [math.nan, math.nan, 3, 9]]))
    assert columns["catalog_rank"] == [2, 3]  # 0 and 3 are left out; then 3 alone
    assert columns["top"] == [[1, 2], [2, 0, 1]]
