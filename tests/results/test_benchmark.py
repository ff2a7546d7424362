"""The benchmark's table: no bold and no star for what chance alone made, and every claim that is true."""

from __future__ import annotations

import html.parser
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from raypref.results.benchmark import Benchmark, benchmark, comparison_cells, score_cells
from raypref.results.benchmark_files import tables_of, write_benchmark
from raypref.results.collect import Collection, collect
from raypref.results.render import latex, markdown
from raypref.results.summaries import matrix
from raypref.results.tables import generation_notes
from tests.support.planted_sweeps import sweep

METHODS = ("popularity", "gru4rec", "caser", "sasrec")


def planted(root: Path, rates: Mapping[str, float], seed: int, users: int = 100, name: str = "ml-100k") -> Collection:
    folder = sweep(
        root / f"{name}-{seed}",
        {"method": list(rates)},
        {"method": "popularity"},
        lambda params, _: rates[params["method"]],
        users=users,
        seed=seed,
        generate=False,
    )
    collection = collect(folder)
    collection.sweep["dataset"] = name
    collection.sweep["sft"] = None
    return collection


def found(root: Path, rates: Mapping[str, float], seed: int = 0, users: int = 100) -> Benchmark:
    return benchmark({"ml-100k": planted(root, rates, seed, users)}, "popularity")


@pytest.mark.slow
def test_two_equal_systems_and_many_comparisons_show_no_bold(tmp_path: Path) -> None:
    """The best two are equal, the others far behind: any bold, in any column of any data set, is false."""
    rates = {**dict.fromkeys(METHODS[:2], 0.05), **dict.fromkeys(METHODS[2:], 0.5)}
    clean = sum(not found(tmp_path, rates, seed).scores["best"].any() for seed in range(100))
    assert clean >= 93


@pytest.mark.slow
def test_equal_systems_show_no_star_either(tmp_path: Path) -> None:
    rates = dict.fromkeys(METHODS, 0.3)
    clean = sum(not found(tmp_path, rates, seed).tests["significant"].any() for seed in range(100))
    assert clean >= 93


def test_a_true_difference_is_bold_and_starred(tmp_path: Path) -> None:
    shown = found(tmp_path, {"popularity": 0.2, "caser": 0.3, "sasrec": 0.75}, users=300)
    best = shown.scores[shown.scores["best"]]
    assert set(best["method"]) == {"sasrec"}
    assert "exact_hr@1" in set(best["metric"])
    assert shown.tests.set_index("method").loc["sasrec", "significant"]
    cells = score_cells(shown, "ml-100k")
    assert ("sasrec*", False) in [row[0] for row in cells.rows]


def test_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    collection = planted(tmp_path, {"popularity": 0.2, "sasrec": 0.5}, 0)
    shown = benchmark({"ml-100k": collection}, "popularity")
    hits = matrix(collection, "exact_hr@1", "test")
    trials = collection.done.groupby("method")["trial"].apply(list)
    for row in shown.scores[shown.scores["metric"] == "exact_hr@1"].to_dict("records"):
        assert row["mean"] == pytest.approx(hits.loc[trials[row["method"]]].to_numpy().mean())
        assert row["low_users"] < row["mean"] < row["high_users"]
    test = shown.tests.iloc[0]
    difference = hits.loc[trials["sasrec"]].to_numpy().mean() - hits.loc[trials["popularity"]].to_numpy().mean()
    assert test["difference"] == pytest.approx(difference)
    assert test["low_users"] < difference < test["high_users"]
    assert 0 < test["p_holm"] <= 1
    assert shown.comparisons == 4 + 1  # four columns with one other method each, and one with the reference


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    cells = score_cells(found(tmp_path, {"popularity": 0.2, "sasrec": 0.5}), "ml-100k")
    (column,) = [i for i, name in enumerate(cells.header) if name.startswith("S-DPO")]
    assert "Llama-2 7B" in cells.header[column]
    shown = {row[0][0].rstrip("*"): row[column][0] for row in cells.rows}
    assert shown == {"popularity": "-", "sasrec": "0.3444"}


def test_of_another_data_set_the_papers_have_no_numbers(tmp_path: Path) -> None:
    collection = planted(tmp_path, {"popularity": 0.2, "sasrec": 0.5}, 0)
    source = {"source": {"kind": "ml-100k"}}
    collection.sweep["config"] = {"data": source, "transfer": source}
    cells = score_cells(benchmark({"ml-100k": collection}, "popularity"), "ml-100k")
    assert not any(name.startswith("S-DPO") for name in cells.header)
    assert any(note.startswith("Cross-domain: trained on ml-100k") for note in cells.notes)


@pytest.mark.parametrize(("category", "value"), [("Movies_and_TV", "0.1847"), ("Books", "0.2537"), ("Toys", None)])
def test_one_category_of_amazon_s_is_not_another(tmp_path: Path, category: str, value: str | None) -> None:
    collection = planted(tmp_path, {"popularity": 0.2, "sasrec": 0.5}, 0, name="amazon-2018")
    collection.sweep["config"] = {"data": {"source": {"kind": "amazon-2018", "category": category}}}
    cells = score_cells(benchmark({"here": collection}, "popularity"), "here")
    columns = [i for i, name in enumerate(cells.header) if name.startswith("EAPO")]
    assert [row[i][0] for row in cells.rows if row[0][0].startswith("sasrec") for i in columns] == [value] * bool(value)


def test_a_table_states_how_far_generation_lies_from_ranking(tmp_path: Path) -> None:
    space, rates = {"method": ["popularity", "sft"]}, {"popularity": 0.2, "sft": 0.5}
    made = sweep(tmp_path, space, {"method": "popularity"}, lambda p, _: rates[p["method"]], users=50)
    collection = collect(made)
    (note,) = generation_notes(collection)
    cells = score_cells(benchmark({"here": collection}, "popularity"), "here")
    assert note in cells.notes
    assert note in markdown(cells).replace("\\", "")


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_three_formats_show_the_same_cells(tmp_path: Path) -> None:
    two = {name: planted(tmp_path, {"popularity": 0.2, "sasrec": 0.7}, 0, name=name) for name in ("ml-100k", "steam")}
    shown = benchmark(two, "popularity")
    paths = write_benchmark(shown, "Which <method> is best?", tmp_path / "out")
    reader = Reader()
    reader.feed((tmp_path / "out" / "benchmark.html").read_text())
    page, text, source = " ".join(reader.texts), paths[0].read_text(), paths[1].read_text()
    assert "Which <method> is best?" in page
    for table in tables_of(shown):
        for row in table.rows:
            for cell, _ in row:
                assert cell in page
        assert markdown(table, 2) in text
        assert latex(table) in source
        assert {line.count(" & ") for line in latex(table).splitlines() if line.endswith(r"\\")} == {
            len(table.header) - 1
        }
    assert comparison_cells(shown, "steam") is not None
    assert np.isfinite(shown.tests["p"]).all()
