"""A sweep takes values of any kind: paths, exponents without a point, metrics that are no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raypref.config.model import PretrainedModel
from raypref.models.folders import SHIPPED_FOLDER
from raypref.sweeps.optuna_study import Study
from raypref.sweeps.space import SweepConfig, grid, make_trial, trials
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
