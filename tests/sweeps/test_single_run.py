"""How `raypref run` ends: a table, chance, numbers as valid JSON, a report, a user to ask about; and Ctrl-C."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from raypref import cli
from raypref.commands.recommend import other_roots
from raypref.commands.run import run
from raypref.errors import UserError
from raypref.results.collect import collect
from raypref.results.pairs import asked
from raypref.storage.inventory import outputs, referrers, unused
from raypref.storage.store import Store
from raypref.sweeps import job
from raypref.sweeps.single import chance, conclude_run, finite, record_run
from tests.support.shared_store import copied, made
from tests.support.tiny_chain import TINY


def test_a_finished_run_has_its_record_numbers_and_report(shared_store: Store, tmp_path: Path) -> None:
    plan = made(TINY, shared_store)
    store = copied(plan, shared_store, tmp_path)
    assert len(unused(store)) == len(outputs(store))  # nobody has named the run yet
    folder = record_run(plan, store)
    out = io.StringIO()
    user = conclude_run(plan, store, folder, Console(file=out, width=160))
    said = out.getvalue()

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    numbers = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    test = numbers["evaluations"]["recpo"]["test"]
    assert test["exact_hr@1"] == store.manifest(plan.evaluate.address)["facts"]["test"]["exact_hr@1"]
    assert f"{test['exact_hr@1']:.3f}" in said
    assert said.count("│ ") >= 5  # HR@1, ValidRatio, exact HR@1, exact NDCG@5, examples
    assert "chance: HR@1 0.125" in said  # 8 candidates
    assert chance(plan.evaluate, store, "test") == pytest.approx(1 / 8)
    assert (folder / "report.html").is_file()
    assert str(folder / "report.html") in said
    found = collect(folder)
    read = asked(found, "test")
    assert read is not None
    assert read.prompt.endswith(":\n")
    assert "| Rating: " in read.prompt
    assert read.target in read.prompt.split("\n")
    page = html.unescape((folder / "report.html").read_text())
    assert read.prompt in page
    assert all(answer in page for _, answer in read.answers)
    assert [label for label, _ in read.answers] == list(found.trials["label"])
    assert user.startswith("u")
    assert unused(store) == []
    name = f"runs/{folder.name}"
    assert referrers(store, outputs(store))[str(plan.prepare.address)] == {name}


def test_no_number_is_null() -> None:
    assert finite({"a": [float("nan"), 1.0], "b": float("inf"), "c": "NaN"}) == {
        "a": [None, 1.0],
        "b": None,
        "c": "NaN",
    }


def interrupted(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(cli.COMMANDS, "run", interrupted)
    monkeypatch.setattr("sys.argv", ["raypref", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "kept" in said
    monkeypatch.setattr(job, "load_sweep", interrupted)
    assert job.run(Path("sweeps/x.yaml"), []) == 130
    assert capsys.readouterr().err == said


def test_a_message_names_other_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYPREF_ROOT", raising=False)
    assert other_roots(Store(tmp_path / "empty")) == ""
    (tmp_path / "home" / "raypref-results" / "prepare").mkdir(parents=True)
    assert other_roots(Store(tmp_path / "empty")) == f"; results lie also at {tmp_path}/home/raypref-results"
    assert other_roots(Store(tmp_path / "home" / "raypref-results")) == ""


def test_a_run_that_fails_is_recorded_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise UserError("this stage can't go on", hint="mend it")

    monkeypatch.setattr("raypref.commands.run.run_chain", fails)
    with pytest.raises(UserError, match="can't go on"):
        run(["--preset", "smoke", "--no-ray", "--root", str(tmp_path)])
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/trials/*.json"))
    assert record["status"] == "failed"
    assert "this stage can't go on" in record["error"]
    assert "mend it" in record["error"]
