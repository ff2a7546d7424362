"""A sweep's part of a page: its answer, figures and table, and the rows that give them back."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypref.commands.verify import verify as verify_command
from raypref.errors import UserError
from raypref.results.answer import answer
from raypref.results.collect import collect
from raypref.results.contrasts import Contrast
from raypref.results.docs_page import redraw, verify, write_section, write_sweep_section
from raypref.results.tuned import Tried
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
    rows = rows[(rows["split"] == "test") & rows[LAMBDA].notna()]
    drawn = pd.read_csv(tmp_path / "results" / "sweep-lambda-on-x-curve-lambda.csv")
    exact = drawn[(drawn["metric"] == "exact_hr@1") & ~drawn["sft"].astype(bool)]
    means = rows.groupby([LAMBDA, "seed"], observed=True)["exact_hr@1"].mean()
    assert exact.groupby("value")["mean"].first().to_dict() == pytest.approx(means.groupby(LAMBDA).mean().to_dict())


def test_a_page_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "root", {LAMBDA: [0, 1]}, {LAMBDA: 1}, lambda params, seed: 0.5)
    with pytest.raises(UserError, match="the page can't be read"):
        write_sweep_section(tmp_path / "none.md", "x", collect(folder))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a sweep and a study, and its rows; what they were collected from is gone."""
    root = tmp_path_factory.mktemp("written")
    page = root / "page" / "results.md"
    page.parent.mkdir()
    page.write_text("# Results\n\nWords of one's own, and 0.123.\n")
    curve = sweep(root / "curve", {LAMBDA: [0, 1, 2]}, {LAMBDA: 2}, lambda params, seed: 0.2 + 0.2 * params[LAMBDA])
    write_sweep_section(page, "sweep_lambda on x", collect(curve))
    space = {"method": ["good", "bad"]}
    study = sweep(root / "study", space, {"method": "bad"}, lambda p, s: 0.6 if p["method"] == "good" else 0.3)
    setting = {"align.learning_rate": 1e-4, "align.max_steps": 60}
    tried = [
        Tried("good", {**setting, "align.objective.beta": beta}, {"align.keep": "hr@1"}, value, first)
        for beta, value, first in ((1.0, 0.5, True), (3.0, 0.625, False), (0.1, None, False))
    ]
    account = json.loads((study / "sweep.json").read_text())
    (study / "sweep.json").write_text(json.dumps(account | {"tuning": [asdict(each) for each in tried]}))
    claim = Contrast(first="good", second="bad", source="a paper", metric="exact_hr@1", direction=1)
    write_section(page, "main on x", collect(study), "x", "bad", [claim])
    shutil.rmtree(root / "curve")
    shutil.rmtree(root / "study")
    return page.parent


@pytest.fixture
def page(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "page") / "results.md"


def test_every_number_of_a_page_is_computed_again_from_its_rows(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {check.section: check for check in verify(page)}
    assert checks.keys() == {"sweep_lambda on x", "main on x"}
    for check in checks.values():
        assert check.faults == []
        assert check.numbers > 30
    assert verify_command(page) == verify_command(page.parent / "results") == 0
    assert "all as printed" in capsys.readouterr().out


@pytest.mark.parametrize("section", ["sweep_lambda on x", "main on x"])
def test_one_altered_digit_is_found(page: Path, section: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text()
    start = text.index(f"<!-- {section} -->")
    cell = re.compile(r"(?<=\| )0\.\d+(?= )").search(text, start)
    assert cell is not None
    digit = str((int(cell.group()[-1]) + 1) % 10)
    page.write_text(text[: cell.end() - 1] + digit + text[cell.end() :])
    faults = {check.section: check.faults for check in verify(page)}
    assert len(faults.pop(section)) == 1
    assert not any(faults.values())
    assert verify_command(page) == 1
    assert "computed" in capsys.readouterr().out
    redraw(page)
    assert page.read_text() == text


def test_an_altered_table_beside_the_page_is_found(page: Path) -> None:
    listed = page.parent / "results" / "main-on-x-claims.csv"
    listed.write_text(listed.read_text().replace("agrees", "disagrees"))
    faults = {check.section: check.faults for check in verify(page)}
    assert [fault.split(":")[0] for fault in faults["main on x"]] == ["main-on-x-claims.csv"]


def test_what_tuning_tried_and_chose_stands_on_the_page(page: Path) -> None:
    row = next(line for line in page.read_text().splitlines() if line.startswith("| good | learning"))
    assert row == "| good | learning\\_rate=0.0001 max\\_steps=60 β=3 | 3 | 0.500 | 0.500 | 0.625 |"
    listed = page.parent / "results" / "main-on-x-tuning.csv"
    table = pd.read_csv(listed)
    assert table["chosen"].tolist() == [False, True, False]
    assert table["validation_exact_hr@1"].isna().tolist() == [False, False, True]
    assert (page.parent / "results" / "main-on-x-tuning.svg").is_file()
    listed.write_text(listed.read_text().replace("0.625", "0.525"))
    assert ["tuning.csv" in fault for check in verify(page) for fault in check.faults] == [True]


@pytest.mark.parametrize(("factor", "found"), [(1 + 1e-14, False), (1 + 1e-7, True)])
def test_the_order_of_sums_is_no_alteration(page: Path, factor: float, found: bool) -> None:
    drawn = page.parent / "results" / "sweep-lambda-on-x-curve-lambda.csv"
    table = pd.read_csv(drawn)
    table.loc[1, "low"] *= factor
    table.to_csv(drawn, index=False)
    faults = {check.section: check.faults for check in verify(page)}
    assert len(faults["sweep_lambda on x"]) == int(found)


def test_an_altered_row_is_found(page: Path) -> None:
    path = page.parent / "results" / "sweep-lambda-on-x.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("exact_hr@1")
    values = table.column(place).to_pylist()
    chosen = table.column("split").to_pylist().index("test")
    values[chosen] = 1.0 - values[chosen]
    pq.write_table(table.set_column(place, table.field(place), pa.array(values, pa.float32())), path)
    assert any(check.faults for check in verify(page))


def test_a_page_tells_no_folder_of_the_machine(page: Path) -> None:
    account = pq.read_schema(page.parent / "results" / "sweep-lambda-on-x.parquet").metadata[b"raypref.section"]
    assert str(page.parents[1].parent).encode() not in account


def test_rows_that_lack_and_a_page_without_sections_are_named(page: Path) -> None:
    (page.parent / "results" / "main-on-x.parquet").unlink()
    with pytest.raises(UserError, match="rows can't be read"):
        verify_command(page)
    page.write_text("# Nothing\n")
    with pytest.raises(UserError, match="no section with rows"):
        verify_command(page)
