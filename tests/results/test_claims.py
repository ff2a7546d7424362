"""The registry of claims: read whole, printed, and asked by the studies."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from raypref.commands.claims import Claims, list_claims
from raypref.errors import UserError
from raypref.results.claims import claim_table, claims
from raypref.sweeps.replicate import StudyConfig
from raypref.sweeps.space import load_sweep

STUDIES = Path(__file__).parents[2] / "sweeps" / "replicate"


def test_each_study_has_its_claims_and_each_claim_its_study() -> None:
    studies = {path.stem for path in STUDIES.glob("*.yaml")}
    assert set(claims()) == studies | {"own"}
    for name in studies:
        declared = load_sweep(STUDIES / f"{name}.yaml", StudyConfig)
        assert declared.contrasts == claims()[name]


def test_a_study_without_claims_is_refused() -> None:
    content = {"name": "mine", "question": "?", "reference": "sdpo", "variants": {"sdpo": {}}}
    with pytest.raises(ValueError, match="no claims: give `contrasts`"):
        StudyConfig.model_validate(content)


def test_sign_and_size_are_as_printed() -> None:
    """RecPO table 1, MovieLens-1M with Llama-3: recpo 0.3451 against sdpo 0.2902, +18.9 %; more in others."""
    table = claim_table()
    row = table[(table["claim"] == "recpo > sdpo") & (table["source"] == "RecPO, table 1")].iloc[0]
    least, most = (float(part.rstrip("%")) for part in row["gains"].split(" to "))
    assert least <= 100 * (0.3451 / 0.2902 - 1) <= most
    assert "MovieLens-1M" in row["data"]
    assert row["study"] == "main"


def said(**options: str) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    assert list_claims(Claims(**options), console) == 0
    return console.export_text()


def test_the_command_prints_what_is_asked_for() -> None:
    everything, ours = said(), said(paper="raypref")
    assert f"{len(claim_table())} claims" in everything
    assert "3 claims" in ours
    assert "docs/results.md" in ours
    assert "NAPO" not in ours
    assert "dynamicpo > dmpo" in said(study="dynamicpo")
    with pytest.raises(UserError, match="no study is called 'dynampo'"):
        said(study="dynampo")
