"""What becomes of a paper's claim beside our rows: each verdict on rows made by hand, and an interval that is right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raypref.results.collect import Collection, collect
from raypref.results.contrasts import (
    Contrast,
    contrast_cells,
    contrast_table,
    paired_test,
    size,
    verdict,
)
from raypref.results.docs_page import command, write_section
from raypref.results.page_rows import load_rows, save_rows
from raypref.results.paired import difference_spread
from raypref.results.summaries import Setting
from tests.support.planted_sweeps import sweep

USERS = 200


def claim(first: str = "good", second: str = "bad", **changes: Any) -> Contrast:
    return Contrast.model_validate({"first": first, "second": second, "source": "Paper, table 1", **changes})


def planted(root: Path, rates: dict[str, float], seeds: int = 3) -> Collection:
    def rate(params: Any, seed: int) -> float:
        return rates[params["method"]]

    folder = sweep(root, {"method": list(rates)}, {"method": "bad"}, rate, seeds=seeds, users=USERS)
    collection = collect(folder)
    collection.sweep.update(dataset="ml-100k", sft=None)
    return collection


@pytest.mark.parametrize(
    ("claimed", "low", "high", "expected"),
    [
        (1, 0.01, 0.09, "agrees"),
        (-1, -0.09, -0.01, "agrees"),
        (1, -0.09, -0.01, "disagrees"),
        (-1, 0.01, 0.09, "disagrees"),
        (1, -0.01, 0.09, "not resolved"),
        (-1, -0.01, 0.09, "not resolved"),
        (1, 0.0, 0.09, "not resolved"),
        (1, math.nan, math.nan, "not measured"),
    ],
)
def test_verdict(claimed: int, low: float, high: float, expected: str) -> None:
    assert verdict(claimed, low, high) == expected


@pytest.mark.parametrize(
    ("gains", "low", "high", "expected"),
    [
        ([0.1, 0.3], 0.2, 0.5, "alike"),
        ([0.1, 0.3], 0.01, 0.09, "smaller"),
        ([0.1, 0.3], 0.31, 0.5, "larger"),
        ([-0.3, -0.1], -0.09, 0.05, "smaller"),
        ([-0.3, -0.1], -0.5, -0.31, "larger"),
        ([], 0.1, 0.2, ""),
    ],
)
def test_size(gains: list[float], low: float, high: float, expected: str) -> None:
    assert size(gains, low, high) == expected


def test_all_three_outcomes_on_planted_rows(tmp_path: Path) -> None:
    """good is far above bad, twin is bad's equal: a true claim, a false one, and one that these rows can't settle."""
    collection = planted(tmp_path, {"good": 0.6, "bad": 0.2, "twin": 0.2})
    printed = {"Data A": (0.5, 0.4), "Data B": (0.6, 0.3)}
    claims = [claim(printed=printed), claim("bad", "good", direction=1), claim("twin", "bad", direction=1)]
    table = contrast_table(collection, [*claims, claim("bad", "absent", direction=1)])
    by_metric = {metric: part["verdict"].tolist() for metric, part in table.groupby("metric")}
    expected = ["agrees", "disagrees", "not resolved", "not measured"]
    assert by_metric == {"hr@1": expected, "exact_hr@1": expected}
    row = table.iloc[1]  # by exact ranking
    assert (row["paper_low"], row["paper_high"]) == (pytest.approx(0.25), pytest.approx(1.0))
    hits = collection.metrics.query("metric == 'exact_hr@1' and split == 'test'").groupby("method")["value"].mean()
    assert row["difference"] == pytest.approx(hits["good"] - hits["bad"])
    assert row["gain"] == pytest.approx(hits["good"] / hits["bad"] - 1)
    assert row["low"] < row["difference"] < row["high"]
    assert (row["seeds"], row["users"], row["test"], row["size"]) == (3, USERS, "paired", "larger")
    cells = contrast_cells(table, "planted")
    assert ("disagrees", True) in [cell for row in cells.rows for cell in row]


@pytest.mark.parametrize(("margin", "expected"), [(0.3, "equivalent"), (0.01, "not resolved")])
def test_a_difference_that_is_surely_small_is_equivalent(tmp_path: Path, margin: float, expected: str) -> None:
    found = planted(tmp_path, {"good": 0.6, "bad": 0.2, "twin": 0.2})
    asked = Collection({**found.sweep, "equivalent": margin}, found.trials, found.metrics, found.users)
    claims = [claim("twin", "bad", metric="exact_hr@1", direction=1), claim(metric="exact_hr@1", direction=1)]
    assert contrast_table(asked, claims)["verdict"].tolist() == [expected, "agrees"]


def test_a_recommender_s_hr_is_by_ranking(tmp_path: Path) -> None:
    """Rows without generation stand for themselves in hr@1; where both generate, generation counts."""
    collection = planted(tmp_path, {"good": 0.6, "bad": 0.2})
    exact = contrast_table(collection, [claim(direction=1)]).set_index("metric")["first_mean"]
    assert exact["hr@1"] < exact["exact_hr@1"]  # an answer in twenty names no candidate
    silent = collection.users.to_pandas()
    good = set(collection.done.loc[collection.done["method"] == "good", "trial"])
    silent.loc[silent["trial"].isin(good), "generated_hr@1"] = np.nan
    mixed = Collection(collection.sweep, collection.trials, collection.metrics, pa.Table.from_pandas(silent))
    means = contrast_table(mixed, [claim(direction=1)]).set_index("metric")["first_mean"]
    assert means["hr@1"] == means["exact_hr@1"] == exact["exact_hr@1"]


def values(array: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(array, index=range(len(array)))


def setting(name: str) -> Setting:
    return Setting({"method": name}, {}, False, name)


def test_what_a_seed_does_to_all_methods_is_no_part_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 50))
    quiet = [values(base + shift + 0.1 * rng.normal(size=(3, 50))) for shift in (0.0, 0.05, 0.1)]
    lucky = np.array([[-1.0], [0.0], [1.0]])
    loud = [method + lucky for method in quiet]
    spreads = [difference_spread(methods) for methods in (quiet, loud)]
    tests = [
        paired_test(methods[1], methods[0], (None, spread), setting("a"), setting("b"))[0]
        for methods, spread in zip((quiet, loud), spreads)
    ]
    assert tests[0].low == pytest.approx(tests[1].low)
    assert tests[0].high == pytest.approx(tests[1].high)


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds: int) -> None:
    """Seeds, users, their interaction with the method, and noise, all drawn anew: 95 % of intervals hold 0."""
    rng, held, rounds = np.random.default_rng(seeds), 0, 400
    for _ in range(rounds):
        methods = [
            values(rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 1.0, (1, 60)) + rng.normal(0, 1.0, (seeds, 60)))
            for _ in range(5)
        ]
        spread = difference_spread(methods)
        test, _ = paired_test(methods[0], methods[1], (None, spread), setting("a"), setting("b"))
        held += test.low <= 0 <= test.high
    assert 0.93 <= held / rounds <= 1.0


def test_claims_without_a_sign_are_refused() -> None:
    with pytest.raises(ValidationError, match="one sign"):
        claim(printed={"A": (0.5, 0.4), "B": (0.3, 0.4)})
    with pytest.raises(ValidationError, match="1 or -1"):
        claim(direction=2)
    assert claim("recpo", "sdpo", source="RecPO, table 1").claimed == 1


def test_a_page_s_section_is_written_anew_and_alone(tmp_path: Path) -> None:
    collection = planted(tmp_path / "sweep", {"good": 0.6, "bad": 0.2})
    collection.sweep["provenance"] = {"git": "abc", "python": "3.11", "machine": "2 cores", "versions": {"torch": "2"}}
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nBefore.\n\n<!-- main on x -->\nancient\n<!-- main on x -->\n\nAfter.\n")
    for _ in range(2):
        write_section(page, "main on x", collection, "x", "bad", [claim(direction=1)])
        text = page.read_text()
        assert text.count("<!-- main on x -->") == 2
        assert "ancient" not in text
        assert "agrees" in text
        assert text.startswith("# Results\n\nBefore.\n")
        assert text.endswith("\n\nAfter.\n")
    write_section(page, "probes on x", collection, "x", "bad", [])
    assert page.read_text().count("<!-- probes on x -->") == 2
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names >= {"main-on-x.parquet", "main-on-x-claims.csv", "main-on-x.svg", "probes-on-x.parquet"}


def test_the_rows_of_a_page_give_its_numbers_back(tmp_path: Path) -> None:
    collection = planted(tmp_path, {"good": 0.6, "bad": 0.2})
    contrasts = [claim(metric="exact_hr@1", direction=1)]
    save_rows(collection, tmp_path / "rows", {"more": 1})
    found, told = load_rows(tmp_path / "rows")
    assert told == {"more": 1}
    pd.testing.assert_frame_equal(contrast_table(found, contrasts), contrast_table(collection, contrasts))
    frame = pd.read_parquet(tmp_path / "rows.parquet").query("split == 'test' and method.notna()")
    assert len(frame) == 2 * 3 * USERS
    means = frame.groupby("method", observed=True)["exact_hr@1"].mean()
    assert means["good"] - means["bad"] == pytest.approx(contrast_table(found, contrasts).iloc[0]["difference"])


def test_the_printed_command_names_no_places() -> None:
    given = ["--study", "main", "--root", "/here", "--data.source.path=/there", "--seeds", "3", "--write", "x.md"]
    assert command(given).endswith("--study main --seeds 3")
