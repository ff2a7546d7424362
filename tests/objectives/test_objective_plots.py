"""The docs' figures: what they show, never their pixels."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from raypref.objectives import OBJECTIVES
from tests.support.processes import CHECKOUT

DOCS = CHECKOUT / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plot_objectives", DOCS / "scripts" / "plot_objectives.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_objective_has_its_curves(script: ModuleType) -> None:
    table = script.loss_table()
    assert list(table["objective"].unique()) == list(OBJECTIVES)
    assert table["loss"].notna().all()
    # nobody's loss rises as a lost pair becomes a tie; only IPO's does once the gap is past its target
    for (name, _), curve in table.groupby(["objective", "value"]):
        lost = curve[curve["gap"] <= 0]
        if name == "mppo":  # a likelihood is at most 1: the plot's likeliest negatives are all alike to it
            lost = lost[lost["gap"] >= -2]
        assert (lost["loss"].diff().dropna() < 0).all() or name == "alpha-dpo"
    plain = table[(table["objective"] == "dpo") & (table["value"] == 1.0) & (table["gap"] == 1.0)]
    assert plain["loss"].item() == pytest.approx(0.3132617)


def test_the_guide_shows_every_objective(script: ModuleType) -> None:
    guide, index = (DOCS / name for name in ("objectives.md", "paper_index.md"))
    for name in OBJECTIVES:
        assert f"figures/objectives/{name}.svg" in guide.read_text(encoding="utf-8")
        assert (DOCS / "figures" / "objectives" / f"{name}.svg").exists()
        assert f"`{name}`" in index.read_text(encoding="utf-8")


def test_draws_one_file_each(script: ModuleType, tmp_path: Path) -> None:
    table = script.loss_table()
    few = table[table["objective"].isin(["dpo", "recpo"])]
    assert [path.name for path in script.draw(few, tmp_path)] == ["dpo.svg", "recpo.svg"]
    assert "lambda = 2" in (tmp_path / "recpo.svg").read_text(encoding="utf-8")
