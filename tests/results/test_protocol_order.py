"""Kendall's tau between the candidates and the whole catalog: scipy's values, planted orders, what a reader is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import kendalltau

from raypref.results.answer import answer
from raypref.results.benchmark import benchmark
from raypref.results.benchmark_files import write_benchmark
from raypref.results.collect import Collection, collect
from raypref.results.protocol_order import kendall_tau, orders
from raypref.results.recommended_lists import list_cells
from tests.support import planted_sweeps

USERS, ITEMS = 60, 50
PLAIN = planted_sweeps.rows
METHODS = ("popularity", "gru4rec", "caser", "sasrec")


def test_tau_is_scipy_s() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (40, 7)), rng.integers(0, 5, (40, 7))
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second)]
    np.testing.assert_allclose(kendall_tau(first, second), expected)
    assert np.isnan(kendall_tau(np.ones((1, 3)), first[:1, :3]))
    assert kendall_tau(np.array([[1, 2, 3]]), np.array([[1, 2, 3]])) == 1
    assert kendall_tau(np.array([[1, 2, 3]]), np.array([[3, 2, 1]])) == -1


def planted(root: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, float]) -> Collection:
    """A benchmark whose methods are ordered as METHODS on the candidates, and by `whole` over all items."""
    asked: dict[str, Any] = {"rate": 0.0}

    def rows(rng: np.random.Generator, hit: float, users: int, **how: Any) -> pa.Table:
        table = PLAIN(rng, hit, users, **how)
        n = table.num_rows
        rank = np.where(rng.random(n) < asked["rate"], rng.integers(1, 6, n), rng.integers(6, ITEMS, n))
        top = planted_sweeps.lists(np.array([rng.permutation(ITEMS)[:20] for _ in range(n)], np.int32))
        columns = {
            "catalog_items": pa.array(np.full(n, ITEMS, np.int32)),
            "catalog_rank": pa.array(rank.astype(np.int32)),
            "top": top,
            "top_information": planted_sweeps.lists(np.ones((n, 20), np.float32)),
            "top_genres": pa.nulls(n, pa.list_(pa.list_(pa.int16()))),
            "history_genres": pa.nulls(n, pa.list_(pa.list_(pa.int16()))),
            "target_stratum": pa.array(rng.integers(0, 3, n).astype(np.int8)),
        }
        for name, values in columns.items():
            table = table.append_column(name, values)
        return table

    def rate(params: Any, seed: int) -> float:
        asked["rate"] = whole[params["method"]]
        return 0.2 + 0.2 * METHODS.index(params["method"])

    monkeypatch.setattr(planted_sweeps, "rows", rows)
    space, default = {"method": list(METHODS)}, {"method": "popularity"}
    made = planted_sweeps.sweep(root, space, default, rate, seeds=2, users=USERS, generate=False)
    collection = collect(made)
    collection.sweep["sft"] = None
    return collection


def test_an_order_that_survives_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {method: 0.05 + 0.3 * i for i, method in enumerate(METHODS)}
    turned = {method: 0.95 - 0.3 * i for i, method in enumerate(METHODS)}
    kept = {o.sampled: o for o in orders(planted(tmp_path / "same", monkeypatch, same))}
    assert set(kept) == {"exact_ndcg@5", "exact_hr@1", "exact_hr@5"}
    assert kept["exact_ndcg@5"].tau == 1
    assert kept["exact_ndcg@5"].low > 0.6
    assert kept["exact_ndcg@5"].high == 1
    assert kept["exact_ndcg@5"].said().endswith("none change places.")
    collection = planted(tmp_path / "turned", monkeypatch, turned)
    (lost,) = [o for o in orders(collection) if o.sampled == "exact_ndcg@5"]
    assert lost.tau == -1
    assert lost.high < 0
    assert ("sasrec", "popularity") in lost.swapped
    assert len(lost.swapped) == 6
    assert "places change between" in lost.said()
    assert "and 2 more pairs" in lost.said()
    assert lost.said() in answer(collection)


def test_one_table_has_both_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {method: 0.05 + 0.3 * i for i, method in enumerate(METHODS)}
    collection = planted(tmp_path, monkeypatch, whole)
    found = benchmark({"here": collection}, "popularity")
    metrics = set(found.scores["metric"])
    assert {"exact_hr@1", "catalog_hr@1", "catalog_hr@20", "catalog_ndcg@10"} <= metrics
    assert found.orders["here"][0].said() in found.notes["here"]
    cells = list_cells(found.lists, "here")
    assert cells is not None
    assert [row[0][0] for row in cells.rows] == sorted(METHODS)
    coverage = cells.header.index("coverage@10")
    by_trial = collection.metrics[(collection.metrics["metric"] == "catalog_coverage@10")]
    expected = by_trial[by_trial["split"] == "test"].groupby("method")["value"].mean()
    assert [float(row[coverage][0].split()[0]) for row in cells.rows] == pytest.approx(expected.to_list(), abs=5e-5)
    write_benchmark(found, "?", tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "orders.csv")
    assert frame["tau"].tolist() == pytest.approx([order.tau for order in found.orders["here"]])


def test_without_the_whole_catalog_nothing_is_said(tmp_path: Path) -> None:
    made = planted_sweeps.sweep(tmp_path, {"method": list(METHODS)}, {"method": "popularity"}, lambda p, s: 0.3)
    collection = collect(made)
    assert orders(collection) == []
    assert "Kendall" not in answer(collection)
    assert list_cells(benchmark({"here": collection}, "popularity").lists, "here") is None
