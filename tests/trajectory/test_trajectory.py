"""The numbers of small real runs stay those that are committed (`recorded.py` writes them anew)."""

from __future__ import annotations

import copy

import pytest
from differences import Recording, first_difference
from recorded import TREE, held, load, made_by
from runs import KINDS, take

RELATIVE = 1e-6
ABSOLUTE = 1e-7
"""For numbers that are 0 but for rounding, such as the rewards of the first step."""


@pytest.fixture(scope="module")
def recorded() -> Recording:
    return load()[0]


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    if made_by()["machine"] != load()[1]["machine"]:
        pytest.skip(f"the numbers were recorded on {load()[1]['machine']}, whose kernels round otherwise")
    return held(take(tmp_path_factory.mktemp("runs"), TREE))


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_committed(kind: str, now: Recording, recorded: Recording) -> None:
    found = first_difference({kind: recorded[kind]}, {kind: now[kind]}, RELATIVE, ABSOLUTE)
    assert found is None, f"recorded with {load()[1]}, computed with {made_by()}"


def test_training_and_evaluation_are_all_recorded(recorded: Recording) -> None:
    assert recorded.keys() == KINDS.keys()
    for name, (_, _, objectives) in KINDS.items():
        files = recorded[name]
        for objective in objectives:
            steps = files[f"{objective}: align/run/metrics.jsonl"]
            assert steps["step"] == list(range(20))
            assert steps.keys() >= {"loss", "grad_norm", "lr"}
            assert files[f"{objective}: align/run/validation.jsonl"].keys() >= {"loss", "hr@1"}
            assert len(files[f"{objective}: evaluate/run/rows.parquet"]["logps"]) == 12
        assert files[f"{objectives[0]}: sft/run/metrics.jsonl"]["step"] == list(range(10))


def test_workers_take_the_same_steps(recorded: Recording) -> None:
    """But for rounding, which Adam blows up where a gradient is nearly 0; of adapters each draws dropout of its own."""
    one, two = recorded["full-1"], recorded["full-2"]
    for file in two:
        if file.endswith("metrics.jsonl"):
            assert two[file]["loss"] == pytest.approx(one[file]["loss"], rel=1e-3), file


def test_a_change_of_the_sixth_digit_is_seen(recorded: Recording) -> None:
    moved = copy.deepcopy(recorded)
    losses = moved["lora-2"]["napo: align/run/metrics.jsonl"]["loss"]
    before = losses[3]
    losses[3] *= 1 + 5e-6
    found = first_difference(recorded, moved, RELATIVE, ABSOLUTE)
    assert found == f"lora-2: napo: align/run/metrics.jsonl: row 3: loss: {before!r}, then {losses[3]!r}"
    losses[3] = before * (1 + 1e-7)
    assert first_difference(recorded, moved, RELATIVE, ABSOLUTE) is None
    assert first_difference(recorded, moved) is not None


def test_columns_that_came_or_went_are_seen(recorded: Recording) -> None:
    more = copy.deepcopy(recorded)
    more["full-1"]["sdpo: sft/run/metrics.jsonl"]["new"] = [0.0] * 10
    told = "what both leave is alike, but 0 columns are gone [] and 1 new ['full-1: sdpo: sft/run/metrics.jsonl: new']"
    assert first_difference(recorded, more) == told
    assert first_difference(more, recorded) is not None
    more["full-1"]["sdpo: align/run/metrics.jsonl"]["loss"].pop()
    found = first_difference(recorded, more)
    assert found == "full-1: sdpo: align/run/metrics.jsonl: 20 rows, then 19"
