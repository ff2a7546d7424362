"""A sweep takes values of any kind: paths, exponents without a point, metrics that are no number, a damaged journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from raypref.config.model import PretrainedModel
from raypref.models.folders import SHIPPED_FOLDER
from raypref.sweeps.optuna_study import JOURNAL, Study
from raypref.sweeps.space import SweepConfig, grid, instead_of_search, make_trial, trials
from raypref.sweeps.sweep import default_beside
from raypref.sweeps.trial_records import file_name
from tests.support.tiny_chain import TINY

LAMBDA = "align.objective.lambda"


def sweep(space: dict[str, Any], **more: Any) -> SweepConfig:
    return SweepConfig.model_validate({"name": "x", "question": "q", "objective": "recpo", "space": space, **more})


def test_an_exponent_without_a_point_is_a_number() -> None:
    asked = sweep({"align.learning_rate": ["1e-5", "5e-5", "1E-4", 0.001]}, default={"align.learning_rate": "5e-5"})
    assert asked.space["align.learning_rate"] == (1e-5, 5e-5, 1e-4, 0.001)
    base = TINY.model_copy(update={"align": TINY.align.model_copy(update={"learning_rate": 5e-5})})
    assert [setting["align.learning_rate"] for setting in grid(asked, base)] == [5e-5, 1e-5, 1e-4, 0.001]
    assert sweep({"model.path": ["e5", "1e5x", "v1e-5"]}).space["model.path"] == ("e5", "1e5x", "v1e-5")


def test_a_path_among_the_values_names_a_folder_that_can_be_made(tmp_path: Path) -> None:
    base = TINY.model_copy(update={"model": PretrainedModel(path="raypref-tiny", lora=None)})
    paths = ["raypref-tiny", str(SHIPPED_FOLDER), f"{SHIPPED_FOLDER.parent}/../raypref/base"]
    names = [
        file_name(trial)
        for trial in trials(sweep({"model.path": paths}), base, grid(sweep({"model.path": paths}), base))
    ]
    assert len(set(names)) == len(names)
    for name in names:
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    (long,) = [make_trial(sweep({"name": ["n" * 300]}), base, {"name": "n" * 300}, 0, 0)]
    (tmp_path / file_name(long)).mkdir()
    assert file_name(long).endswith(f"-seed=0-{long.id}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_fails_its_setting_and_the_search_goes_on(value: float, tmp_path: Path) -> None:
    study = Study(sweep({LAMBDA: [0, 1, 2, 3]}, search="tpe", trials=4, seeds=1), tmp_path)
    study.add({LAMBDA: 1}, [value])
    asked = study.ask(set())
    assert asked is not None
    study.add(asked, [value])
    assert [trial.state.name for trial in study.study.trials] == ["FAIL"]
    study.add({LAMBDA: 2}, [0.5])
    assert study.study.best_value == 0.5
    assert study.ask(set()) is not None


DAMAGE = {
    "a torn last line": lambda data: data[:-20],
    "a line that is no entry": lambda data: data.replace(b"\n", b"\n{{\n", 1),
    "its beginning is gone": lambda data: data[data.index(b"\n", 200) + 1 :],
    "zeros, as after a loss of power": lambda data: data + bytes(64),
    "entries of nothing": lambda data: data + b"null\n",
    "an entry without its parts": lambda data: data + b'{"op_code":5}\n',
    "a web page": lambda data: b"<html>\n</html>\n",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_journal_is_put_aside_and_made_anew_of_the_records(how: str, tmp_path: Path) -> None:
    asked = sweep({LAMBDA: [0, 1, 2, 3]}, search="tpe", trials=4, seeds=1)
    records = {0: 0.25, 1: 0.5, 2: 0.125}

    def taken_up() -> Study:
        study = Study(asked, tmp_path)
        for value, score in records.items():
            study.add({LAMBDA: value}, [score])
        return study

    taken_up()
    journal = tmp_path / JOURNAL
    damaged = DAMAGE[how](journal.read_bytes())
    journal.write_bytes(damaged)
    for _ in range(2):  # what is made anew is whole
        study = taken_up()
        scored = study.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        assert sorted(trial.values[0] for trial in scored) == sorted(records.values())
        assert study.ask({"none"}) is not None
    kept = [path.read_bytes() for path in tmp_path.glob("*damaged*")]
    assert kept == ([] if how == "its beginning is gone" else [damaged])  # that one Optuna reads as another's


def test_a_storage_that_fails_after_trials_have_run_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = Study(sweep({LAMBDA: [0, 1, 2, 3]}, search="tpe", trials=4, seeds=1), tmp_path)
    asked = study.ask(set())
    assert asked is not None

    def fail(*_: object, **__: object) -> None:
        raise optuna.exceptions.StorageInternalError("database is locked")

    for name in ("tell", "ask", "add_trial"):
        monkeypatch.setattr(study.study, name, fail)
    with caplog.at_level("WARNING", logger="raypref"):
        study.add(asked, [0.5])
        study.add({LAMBDA: 3}, [0.25])
        assert study.ask(set()) is None
    assert [record.message for record in caplog.records if "database is locked" in record.message] != []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("values", "said"), [([0, 1], ", among them the default λ=2 to compare with"), ([0, 2], ""), ([0, 2.0], "")]
)
def test_a_default_that_is_none_of_the_values_is_told(values: list[float], said: str) -> None:
    assert default_beside(sweep({LAMBDA: values}), TINY) == said


def test_a_search_over_a_range_is_not_told_to_become_a_grid() -> None:
    """`--search grid` would be refused there."""
    chosen = sweep({LAMBDA: {"low": 0.0, "high": 4.0}}, search="random", trials=2)
    assert instead_of_search(chosen) == "leave it out"
    of_values = sweep({LAMBDA: [0, 1]}, search="random", trials=2)
    assert instead_of_search(of_values).endswith("--search grid")
    SweepConfig.model_validate(of_values.model_dump() | {"search": "grid"})
    with pytest.raises(ValueError, match="a grid needs lists of values"):
        SweepConfig.model_validate(chosen.model_dump() | {"search": "grid"})
