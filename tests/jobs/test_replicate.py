"""Every study can be planned for every data set, and shares what it has in common with the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raypref.config import RunConfig
from raypref.config.loading import load, override
from raypref.errors import UserError
from raypref.sweeps.replicate import StudyConfig, run
from raypref.sweeps.space import Trial, grid, load_sweep, trials
from tests.support.processes import CHECKOUT

FOLDER = CHECKOUT / "sweeps" / "replicate"
STUDIES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
DATASETS = {path.stem: path for path in sorted((FOLDER / "data").glob("*.yaml"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files stand for the data sets: what a plan reads of them is their bytes."""
    root = tmp_path_factory.mktemp("data")
    for place, names in (("ml-100k", ("u.data", "u.item")), ("lastfm-sdpo", ("lastfm-train.json", "lastfm-val.json"))):
        (root / place).mkdir()
        for name in names:
            (root / place / name).write_text(f"{name}\n")
    return root


def planned(study: str, dataset: str) -> tuple[StudyConfig, list[Trial]]:
    """As the job plans it, with two seeds."""
    declared = load_sweep(STUDIES[study], StudyConfig)
    config: RunConfig = override(load("replicate", DATASETS[dataset])[0], dict(declared.base), "test")
    sweep = declared.sweep(seeds=2)
    return declared, trials(sweep, config, grid(sweep, config))


def addresses(found: list[Trial], kind: str) -> set[str]:
    return {str(stage.address) for trial in found for stage in trial.chain if stage.kind == kind}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_a_plan_for_every_data_set(
    study: str, dataset: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYPREF_DATA", str(data))
    declared, found = planned(study, dataset)
    assert declared.name == study
    assert {trial.method for trial in found} == set(declared.variants)
    assert len({trial.id for trial in found}) == len(found)
    sources = {trial.chain.config.data.source.kind for trial in found}
    assert sources == {{"lastfm": "sdpo-json", "lastfm-sdpo": "sdpo-json"}.get(dataset, dataset)}


def test_studies_share_what_they_have_in_common(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYPREF_DATA", str(data))
    main = planned("main", "ml-100k")[1]
    for study in ("recpo-margins", "napo-ablation", "probes", "eapo-expert"):
        trials = planned(study, "ml-100k")[1]
        other = [trial for trial in trials if trial.method != "recpo-utility"]  # whose examples ask for another title
        for kind in ("prepare", "tokenize", "sft", "reference"):
            assert addresses(other, kind) <= addresses(main, kind)
            assert (addresses(trials, kind) <= addresses(main, kind)) == (study != "recpo-margins")
        assert addresses(other, "align") & addresses(main, "align")
    assert len(addresses(main, "sft")) == len(addresses(main, "reference")) == 2  # one a seed, for all methods
    assert not addresses(planned("cold-start", "ml-100k")[1], "prepare") & addresses(main, "prepare")


def test_seeds_are_whole(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYPREF_DATA", str(data))
    found = {(trial.method, trial.seed): trial.chain for trial in planned("main", "ml-100k")[1]}
    for method in ("sdpo", "napo"):
        for seed in (0, 1):
            started_from = next(stage for stage in found[method, seed] if stage.kind == "sft")
            assert started_from.address == found["sft", seed].trained.address
            assert found[method, seed].config.align.seed == seed
    assert ("zero-shot", 1) not in found


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--study", "mian"], "did you mean 'main'"),
        (["--study", "main", "--only", "sft", "rekpo"], "no variant rekpo"),
        (["--dataset", "ml-10k"], "no data set is called 'ml-10k'"),
        (["--dataset", "generated", "--config", "mine.yaml"], "a data set that is one itself"),
        (["--seeds", "0"], "greater than or equal to 1"),
    ],
)
def test_mistakes(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="(?s)" + complaint.replace("(", r"\(")):
        run(FOLDER, ["--root", str(tmp_path), "--dry-run", *arguments])


def test_a_study_names_its_own_variants() -> None:
    content: dict[str, Any] = {"name": "x", "question": "?", "reference": "sft", "variants": {"sft": {}}}
    claim = {"first": "sdpo", "second": "sft", "source": "?", "direction": 1}
    with pytest.raises(ValueError, match="no variant is called sdpo"):
        StudyConfig.model_validate({**content, "contrasts": [claim]})


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FOLDER, ["--study", "probes", "--dataset", "generated", "--root", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "9 of 9 trials" in said
    assert "study probes" in said  # where the splits come from
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.slow
def test_a_study_ends_with_verdicts_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs.md"
    page.write_text("# Results\n")
    small = "--preset smoke --dataset generated --data.source.users 60 --data.source.items 80".split()
    small += "--data.source.mean-length 12 --seeds 2 --no-ray --resources.engine torch".split()
    small += "--only popularity sft sdpo recpo".split()
    arguments = ["--study", "main", "--root", str(tmp_path / "root"), "--write", str(page), *small]
    assert run(FOLDER, arguments) == 0
    said = capsys.readouterr().out
    assert "the papers' claims" in said
    assert "recpo > sdpo" in said
    assert "simpo" not in said  # not among those run
    rows = pq.read_table(tmp_path / "results" / "main-on-generated.parquet").to_pandas()
    assert set(rows["method"]) == {"popularity", "sft", "sdpo", "recpo"}
    assert page.read_text().count("<!-- main on generated -->") == 2
