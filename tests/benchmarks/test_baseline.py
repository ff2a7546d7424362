"""benchmarks/baseline.py: a run that fell behind fails, one within the tolerance does not, on planted reports."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import CHECKOUT

SCRIPT = runpy.run_path(str(CHECKOUT / "benchmarks" / "baseline.py"))
REPORT: dict[str, Any] = {
    "case": {"shape": "small", "lora": None, "micro": None},
    "sizes": {"hidden": 256, "title": 8},
    "device": "2 CPU threads",
    "machine": "x86_64",
    "torch": "2.13.0+cpu",
    "repeats": 5,
    "summary": {
        "over_ours": {
            "published K=3": {"time": 12.0, "cpu_time": 10.0, "memory": 5.0},
            "trl K=1": {"time": 8.0, "cpu_time": 8.0, "memory": 4.0},
        }
    },
}
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command on REPORT with ratios or other keys changed, beside a baseline of REPORT itself."""

    def command(way: str = "trl K=1", *options: str, other: dict[str, Any] | None = None, **ratios: float) -> int:
        report = copy.deepcopy(REPORT) | (other or {})
        report["summary"]["over_ours"][way] |= ratios
        file = tmp_path / "new.json"
        file.write_text(json.dumps(report))
        code: int = SCRIPT["main"]([str(file), "--folder", str(tmp_path / "baselines"), *options])
        return code

    assert command("trl K=1", "--write", "--commit", "abc") == 0
    return command


def test_the_same_run_and_one_within_the_tolerance_pass(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert run("published K=3", time=9.01, cpu_time=7.51, memory=4.51) == 0
    assert "against engine-small-2-cpu-threads-x86_64.json, commit abc: within" in capsys.readouterr().out


@pytest.mark.parametrize(("measure", "value"), [("time", 8.99), ("cpu_time", 7.49), ("memory", 4.49)])
def test_a_ratio_that_fell_beyond_it_fails(
    run: Run, measure: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("published K=3", **{measure: value}) == 1
    fell = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FELL")]
    assert len(fell) == 1
    assert fell[0].split() == ["published", "K=3", measure, *_row(measure, value), "FELL"]


def _row(measure: str, value: float) -> list[str]:
    return [f"{REPORT['summary']['over_ours']['published K=3'][measure]:.2f}", "then,", f"{value:.2f}", "now"]


def test_one_that_rose_is_said_and_fails_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("published K=3", time=15.1) == 0
    assert "rose: the baseline is out of date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"device": "NVIDIA H200"}, "there is no baseline"),
        ({"case": {"shape": "small", "lora": None, "micro": 2}}, "micro is 2, the baseline's None"),
        ({"case": {"shape": "small", "lora": None, "micro": None, "copies": 4}}, "copies is 4"),
        ({"sizes": {"hidden": 512, "title": 8}}, "hidden is 512, the baseline's 256"),
    ],
)
def test_another_machine_or_case_is_not_compared(
    run: Run, other: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(other=other)
    assert stopped.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_report_without_a_shared_ratio_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("ours", other={"summary": {"over_ours": {"ours": {}}}})
    assert "share no ratio" in capsys.readouterr().err


def test_a_setting_that_came_later_counts_as_not_given(run: Run) -> None:
    later = {"case": {**REPORT["case"], "copies": None}, "sizes": {**REPORT["sizes"], "tied": True}}
    assert run(other=later) == 0


def test_a_variant_of_ours_is_not_held(run: Run, tmp_path: Path) -> None:
    """Its ratio falls when it gains."""
    flex = {"flex K=3": {"time": 0.6}, "published K=3": {"time": 2.4}}
    assert run("flex K=3", "--write", other={"summary": {"over_ours": flex}}) == 0
    (file,) = (tmp_path / "baselines").iterdir()
    assert json.loads(file.read_text())["over_ours"] == {"published K=3": {"time": 2.4}}


@pytest.mark.parametrize("name", ["engine-small", "h100-1b-lora8"])
def test_the_committed_baselines_are_of_the_measurements_in_the_docs(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = CHECKOUT / "docs" / "performance" / f"{name}.json"
    assert SCRIPT["main"]([str(measured)]) == 0
    out = capsys.readouterr().out
    over = json.loads(measured.read_text())["summary"]["over_ours"]
    assert out.count("then") == sum(len(ratios) for way, ratios in over.items() if not way.startswith("flex"))
    assert "FELL" not in out
    assert "rose" not in out
