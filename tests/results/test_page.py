"""A sweep's part of a page: its answer, figures and table, and the rows that give them back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from raypref.errors import UserError
from raypref.results.answer import answer
from raypref.results.collect import collect
from raypref.results.docs_page import write_sweep_section
from tests.support.planted_sweeps import LAMBDA, sweep


def test_a_sweep_s_section_is_written_anew_and_alone(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "root", {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda params, seed: 0.2 + 0.2 * params[LAMBDA])
    collection = collect(folder)
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nBefore.\n\nAfter.\n")
    for _ in range(2):
        written = write_sweep_section(page, "sweep_lambda on x", collection)
        text = page.read_text()
        assert text.count("<!-- sweep_lambda on x -->") == 2
        assert text.startswith("# Results\n\nBefore.\n\nAfter.\n")
        assert answer(collection) in text
        assert "\n## `sweep_lambda` on x\n" in text
    assert all(path.is_file() for path in written)
    for path in written[1:]:
        assert path.parent == tmp_path / "results"
        if path.suffix == ".svg":
            assert f"](results/{path.name})" in text
    rows = pq.read_table(tmp_path / "results" / "sweep-lambda-on-x.parquet").to_pandas()
    drawn = pd.read_csv(tmp_path / "results" / "sweep-lambda-on-x-curve-lambda.csv")
    exact = drawn[(drawn["metric"] == "exact_hr@1") & ~drawn["sft"].astype(bool)]
    means = rows.groupby([LAMBDA, "seed"], observed=True)["exact_hr@1"].mean()
    assert exact.groupby("value")["mean"].first().to_dict() == pytest.approx(means.groupby(LAMBDA).mean().to_dict())


def test_a_page_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "root", {LAMBDA: [0, 1]}, {LAMBDA: 1}, lambda params, seed: 0.5)
    with pytest.raises(UserError, match="the page can't be read"):
        write_sweep_section(tmp_path / "none.md", "x", collect(folder))
