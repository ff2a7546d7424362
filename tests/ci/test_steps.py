"""CI's script: what fails is seen, logs stay apart, a slow step is named; and its steps are those of the Makefile."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT

CI = runpy.run_path(str(CHECKOUT / ".ci" / "steps.py"))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failed_step_is_told_and_the_others_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {
        "first": [python("print('ready')")],
        "fails": [python("print('one', flush=True); raise SystemExit(3)")],
        "again": [python("raise SystemExit('no')"), python("print('at the second try')")],
        "last": [python("import sys; print('to stderr', file=sys.stderr)")],
    }
    found = list(CI["run_steps"](steps, [[["first"]], [["fails", "last"], ["again"]]], tmp_path / "logs"))
    assert {name: well for name, well, _ in found} == {"first": True, "fails": False, "again": True, "last": True}
    assert "at the second try" in (tmp_path / "logs" / "again.log").read_text()
    said = capsys.readouterr().out
    parts = dict(re.findall(r"^==== (\w+): (.*?)(?=^====|\Z)", said, re.MULTILINE | re.DOTALL))
    assert {name: "FAILED" in text for name, text in parts.items()} == {name: name == "fails" for name in steps}
    assert "one" in parts["fails"]
    assert "to stderr" in parts["last"]


def test_side_by_side_is_side_by_side(tmp_path: Path) -> None:
    """Each waits for what the other leaves."""
    wait = "import pathlib, time\nwhile not pathlib.Path({other!r}).exists(): time.sleep(0.01)"
    paths = {name: str(tmp_path / name) for name in "ab"}
    steps = {
        name: [python(f"open({paths[name]!r}, 'w').close()\n" + wait.format(other=paths[other]))]
        for name, other in (("a", "b"), ("b", "a"))
    }
    assert all(well for _, well, _ in CI["run_steps"](steps, [[["a"], ["b"]]], tmp_path / "logs"))


def test_nothing_runs_without_what_all_need(tmp_path: Path) -> None:
    steps = {"install": [python("raise SystemExit(1)")], "test": [python("pass")]}
    found = list(CI["run_steps"](steps, [[["install"]], [["test"]]], tmp_path / "logs"))
    assert [(name, well) for name, well, _ in found] == [("install", False)]


def test_a_step_more_than_half_over_its_prediction_is_named() -> None:
    text = CI["compare"]({"test": 151.0, "lint": 149.0, "docs": 1.0}, {"test": 100, "lint": 100, "docs": 10})
    assert re.search(r"^test +100 s +151 s$", text, re.MULTILINE)
    assert re.findall(r"^(\w+) is slow", text, re.MULTILINE) == ["test"]


def test_every_step_is_run_once_has_a_target_and_a_prediction() -> None:
    run = [name for together in CI["ROUNDS"] for one in together for name in one]
    assert sorted(run) == sorted(CI["STEPS"])
    predicted = json.loads((CHECKOUT / ".ci" / "times.json").read_text())["seconds"]
    assert set(predicted) == {*run, "all"}
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    called = {command[1] for commands in CI["STEPS"].values() for command in commands if command[0] == "make"}
    assert called <= set(targets)
    assert CI["STEPS"]["test"] == [["make", "test"]]  # the README's test command


def test_every_marker_that_make_test_leaves_out_has_a_target_or_says_how_to_run_it() -> None:
    settings = (CHECKOUT / "pyproject.toml").read_text()
    left_out = re.search(r"not \(([\w ]+)\)", settings)
    assert left_out
    makefile = (CHECKOUT / "Makefile").read_text()
    for marker in set(left_out[1].split(" or ")) - {"slow", "gpu"}:
        assert f"-m pytest -m {marker} " in makefile, marker
