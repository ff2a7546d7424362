"""One split is reported, one chooses, by one rule: in tables, figures, answers and what the trials tell as they go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from raypref.evaluation.splits import choosing_split, reported_split
from raypref.results.answer import answer, best_setting
from raypref.results.collect import Collection, collect
from raypref.results.figures import drawings
from raypref.results.render import html_table, latex, markdown
from raypref.results.report import report_html
from raypref.results.tables import comparison_table, sweep_cells
from tests.support.planted_sweeps import LAMBDA, sweep


@pytest.mark.parametrize(
    ("splits", "reported", "choosing"),
    [
        ({"test", "validation"}, "test", "validation"),
        ({"test"}, "test", "test"),
        ({"validation"}, "validation", "validation"),
        ({"adherence", "validation"}, "validation", "validation"),
        ({"adherence", "cold", "test"}, "test", "test"),
        ({"cold", "adherence"}, "adherence", "adherence"),
        (set(), "test", "test"),
    ],
)
def test_the_rule(splits: set[str], reported: str, choosing: str) -> None:
    assert (reported_split(splits), choosing_split(splits)) == (reported, choosing)


def collected(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Collection:
    """A sweep whose evaluations' rows are changed."""
    folder = sweep(root, {LAMBDA: [0, 2]}, {LAMBDA: 2}, lambda p, s: 0.2 + 0.3 * (p[LAMBDA] == 2), seeds=2, users=60)
    for path in root.glob("evaluate/*/rows.parquet"):
        table = pq.read_table(path)
        frame = change(table.select(["split"]).to_pandas())
        kept = (
            table.take(frame.index.to_numpy()).drop_columns("split").append_column("split", [frame["split"].tolist()])
        )
        pq.write_table(kept, path)
    return collect(folder)


def test_without_a_test_file_everything_shows_validation(tmp_path: Path) -> None:
    found = collected(tmp_path, lambda frame: frame[frame["split"] == "validation"])
    table = comparison_table(found).set_index("setting")
    scores = found.metrics.query("split == 'validation' and metric == 'generated_hr@1'").groupby(LAMBDA)["value"].mean()
    assert table.loc["λ=2", "generated_hr@1"] == pytest.approx(scores[2])
    cells = sweep_cells(found)
    assert len(cells.rows) == 3
    for text in (markdown(cells), latex(cells), html_table(cells), report_html(found)):
        assert f"{scores[2]:.3f}" in text
    assert cells.notes[0].startswith("Split: validation.")
    assert {split for drawing in drawings(found) for split in drawing.table["split"]} == {"validation"}
    assert f"{scores[2]:.3f}" in answer(found)


def test_a_split_of_another_kind_is_not_taken_for_test(tmp_path: Path) -> None:
    found = collected(tmp_path, lambda frame: frame.replace({"split": {"test": "adherence"}}))
    assert set(found.metrics["split"]) == {"adherence", "validation"}
    assert {split for drawing in drawings(found) for split in drawing.table["split"]} == {"validation"}
    assert sweep_cells(found).notes[0].startswith("Split: validation.")
    best = best_setting(found)
    assert best is not None
    assert best[1] == "validation"
