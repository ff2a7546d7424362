"""K across, a curve for each way of choosing negatives: planted rates, read back from table, figure and words."""

from __future__ import annotations

from pathlib import Path

import pytest

from raypref.results.collect import Collection, collect
from raypref.results.curve_families import family_alt, family_figure, family_table, keys_of_family
from raypref.results.figures import drawings
from tests.support.planted_sweeps import sweep

K, BY = "align.negatives", "align.negatives_by"
RATES = {"draw": 0.1, "hard": 0.6}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    space = {K: [1, 3, 8], BY: ["draw", "hard"]}
    folder: Path = tmp_path_factory.mktemp("family")
    return collect(sweep(folder, space, {K: 3, BY: "draw"}, lambda params, seed: RATES[params[BY]] + 0.03 * params[K]))


def test_each_way_has_a_curve_of_its_own(collection: Collection) -> None:
    assert keys_of_family(collection) == (K, BY)
    table = family_table(collection, K, BY)
    quality = table[(table["metric"] == "generated_hr@1") & ~table["sft"]]
    assert quality.groupby("line")["value"].apply(sorted).to_dict() == {"draw": [1, 3, 8], "hard": [1, 3, 8]}
    for line, value, mean in zip(quality["line"], quality["value"], quality["mean"]):
        assert mean == pytest.approx(RATES[line] + 0.03 * value, abs=0.1)
    assert table[table["sft"]].groupby("metric").size().eq(1).all()


def test_the_figure_has_a_panel_a_metric_and_a_line_a_way(collection: Collection) -> None:
    table = family_table(collection, K, BY)
    axes = family_figure(table).axes
    assert len(axes) == table["metric"].nunique()
    assert [text for text in axes[0].get_legend_handles_labels()[1] if text != "SFT"] == ["draw", "hard"]
    said = family_alt(table)
    assert "against K by " in said
    assert "hard " in said


def test_the_sweep_draws_it(collection: Collection, tmp_path: Path) -> None:
    drawing = next(d for d in drawings(collection) if d.name == "family")
    assert {path.suffix for path in drawing.save(tmp_path, formats=("svg",))} == {".svg", ".csv"}
    assert drawing.svgs()


def test_a_sweep_over_one_key_has_none(tmp_path: Path) -> None:
    alone = collect(sweep(tmp_path, {K: [1, 3]}, {K: 3}, lambda params, seed: 0.2, seeds=1, users=20))
    assert keys_of_family(alone) is None
