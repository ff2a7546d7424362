"""A search keeps how sure each setting's score is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from raypref.sweeps.optuna_study import ERRORS, Study, standard_errors
from raypref.sweeps.space import SweepConfig

BETA = "align.objective.beta"


def test_standard_errors_over_the_seeds() -> None:
    records = [{"metrics": {"validation": {"exact_hr@1": value}}} for value in (0.1, 0.2, 0.3)]
    assert standard_errors(records, ["exact_hr@1"]) == [pytest.approx(0.1 / math.sqrt(3))]
    assert standard_errors(records[:1], ["exact_hr@1"]) == []


def test_the_study_keeps_them_of_settings_told_and_proposed(tmp_path: Path) -> None:
    space = {BETA: {"low": 0.1, "high": 1.0}}
    study = Study(SweepConfig.model_validate({"name": "s", "question": "?", "search": "tpe", "space": space}), tmp_path)
    study.add({BETA: 0.5}, [0.2], [0.05])
    proposed = study.ask([])
    assert proposed is not None
    study.add(proposed, [0.3], [0.01])
    assert [trial.user_attrs for trial in study.study.trials] == [{ERRORS: [0.05]}, {ERRORS: [0.01]}]
