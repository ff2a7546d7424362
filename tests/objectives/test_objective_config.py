"""What the config accepts, what it refuses and with which words, and what a batch may lack."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from raypref.config.custom_objective import Custom
from raypref.config.objective_switches import Z_C
from raypref.config.objectives import ObjectiveConfig
from raypref.errors import UserError
from raypref.objectives import COLUMNS, OBJECTIVES, PreferenceBatch
from tests.support.objective_batches import VARIANTS, apply, make, random_batch

CONFIG: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)


def test_the_union_and_the_dict_hold_the_same_objectives() -> None:
    union = get_args(get_args(ObjectiveConfig)[0])
    assert [*(cls for _, cls in OBJECTIVES.values()), Custom] == list(union)
    for name, (function, cls) in OBJECTIVES.items():
        assert type(CONFIG.validate_python({"name": name})) is cls
        assert function.__doc__
        assert "`" in function.__doc__, "the docstring gives the equation"
        assert all(field.description for key, field in cls.model_fields.items() if key != "name")


@pytest.mark.parametrize("key", VARIANTS)
def test_a_snapshot_reads_back(key: str) -> None:
    config = CONFIG.validate_python(VARIANTS[key])
    assert CONFIG.validate_json(config.model_dump_json(by_alias=True)) == config
    assert CONFIG.validate_python(config.model_dump()) == config


def test_defaults_are_the_papers() -> None:
    defaults = {
        "dpo": {"beta": 1},
        "sdpo": {"beta": 1},
        "recpo": {"beta": 1, "lambda_": 2, "alpha": 0.5, "margin": "ratio", "default_score": 3, "default_latency": 11},
        "napo": {"gamma0": 1, "rho": 0.7, "alpha": 0.3, "momentum": 0.9, "beta": 1, "share_negatives": True},
        "eapo": {"u_beta": 0.75, "gamma": 5},
        "simpo": {"beta": 1, "gamma0": 2},
        "beta-dpo": {"a": 0.6, "filter_share": 0.2, "momentum": 0.9, "beta": 0.1},
    }
    for name, expected in defaults.items():
        values = make(name)[1].model_dump()
        assert {key: values[key] for key in expected} == expected


def test_z_c_is_the_root() -> None:
    assert exp(Z_C) * (Z_C - 1) == pytest.approx(1, abs=1e-12)
    assert pytest.approx(1.27846, abs=1e-5) == Z_C


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"name": "eapo", "u_beta": 0.2},
            r"below the smallest beta, z_c / gamma = 0.2557.*above 6.392",
        ),
        ({"name": "sdpo", "adaptive_beta": "expert", "gamma": 1.0}, "below the smallest beta"),
        ({"name": "napo", "rho": 1.2}, "rho\n.*less than or equal to 1"),
        ({"name": "napo", "rho": -0.1}, "rho\n.*greater than or equal to 0"),
        ({"name": "recpo", "alpha": 0.0}, "alpha\n.*greater than 0"),
        ({"name": "recpo", "lambda": -1.0}, "lambda\n.*greater than or equal to 0"),
        ({"name": "recpo", "default_latency": 0.5}, "default_latency\n.*greater than or equal to 1"),
        ({"name": "dpo", "beta": 0.0}, "beta\n.*greater than 0"),
        ({"name": "sdpo", "beta": -1.0}, "beta\n.*greater than 0"),
        ({"name": "dpo", "beta": float("inf")}, "beta\n.*finite"),
        ({"name": "ipo", "tau": 0.0}, "tau\n.*greater than 0"),
        ({"name": "rosepo", "epsilon": 0.5}, "epsilon\n.*less than 0.5"),
        ({"name": "napo", "momentum": 1.0}, "momentum\n.*less than 1"),
        ({"name": "beta-dpo", "filter_share": 1.0}, "filter_share\n.*less than 1"),
        ({"name": "sdpo", "betta": 1.0}, "unknown key 'betta': did you mean 'beta'"),
        ({"name": "recpo", "margin": "none"}, "margin\n.*'ratio'"),
    ],
)
def test_bad_parameters(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CONFIG.validate_python(values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": "sdpo", "share_negatives": True, "adaptive_beta": "expert"}, "never scored another user's negatives"),
        ({"name": "eapo", "share_negatives": True}, "a shared pair has no beta"),
        ({"name": "rosepo", "share_negatives": True, "smoothing": "expert"}, "never scored a shared pair"),
        ({"name": "recpo", "share_negatives": True, "margin_scope": "summed"}, "user's own list only"),
        ({"name": "dpo", "margin": "ratio", "margin_scope": "summed"}, "list-wise model"),
        ({"name": "napo", "margin": "ratio"}, "adapts a margin of its own"),
        ({"name": "alpha-dpo", "lambda": 1.0}, "adapts a margin of its own"),
        ({"name": "napo", "adaptive_beta": "expert"}, "a shared pair has no beta"),
        ({"name": "beta-dpo", "adaptive_beta": "expert"}, "two rules for one beta"),
        ({"name": "beta-dpo", "share_negatives": True}, "a user's own pairs"),
        ({"name": "alpha-dpo", "share_negatives": True}, "a user's own pairs"),
        ({"name": "eapo", "beta": 2.0}, "u_beta and gamma set the beta"),
        ({"name": "ipo", "beta": 2.0}, "tau alone sets the scale"),
    ],
)
def test_combinations_without_sense(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        CONFIG.validate_python(values)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "sdpo", "lambda": 1.0},
        {"name": "dpo", "alpha": 1.0},
        {"name": "sdpo", "rho": 0.3},
        {"name": "napo", "share_negatives": False, "rho": 0.3},
        {"name": "sdpo", "u_beta": 0.5},
        {"name": "sdpo", "adaptive_beta": "expert", "beta": 2.0},
        {"name": "rosepo", "smoothing": "expert", "epsilon": 0.2},
    ],
)
def test_a_value_that_changes_nothing_is_refused(values: dict[str, Any]) -> None:
    """A sweep over it would report seed noise as an effect."""
    with pytest.raises(ValidationError, match="has no effect"):
        CONFIG.validate_python(values)


@pytest.mark.parametrize("key", VARIANTS)
def test_columns_and_scope_are_what_the_loss_reads(key: str) -> None:
    """With the declared columns alone it runs; without any one of them it says which is missing and who fills it."""
    params = make(**VARIANTS[key])[1]
    batch = random_batch()
    declared = {name: batch.columns[name] for name in params.columns}
    lean = replace(batch, columns=declared)
    if not params.uses_reference:
        lean = replace(lean, ref_logps_pos=None, ref_logps_neg=None)
    expected = apply(batch, **VARIANTS[key]).losses
    assert torch.equal(apply(lean, **VARIANTS[key]).losses, expected)
    for missing in params.columns:
        without = replace(lean, columns={name: value for name, value in declared.items() if name != missing})
        with pytest.raises(UserError) as error:
            apply(without, **VARIANTS[key])
        assert f"'{missing}'" in str(error.value)
        assert f"the stage '{COLUMNS[missing]}'" in str(error.value)
    if params.uses_reference:
        with pytest.raises(UserError, match="reference"):
            apply(replace(lean, ref_logps_neg=None), **VARIANTS[key])
    assert params.scope in ("example", "batch")


def test_scope_follows_the_switch() -> None:
    assert make("sdpo")[1].scope == "example"
    assert make("sdpo", share_negatives=True)[1].scope == "batch"
    assert {name for name, (_, cls) in OBJECTIVES.items() if cls().scope == "batch"} == {
        "napo",
        "alpha-dpo",
        "beta-dpo",
    }


def test_only_the_batch_methods_keep_state() -> None:
    kept = {}
    for name in OBJECTIVES:
        state: dict[str, torch.Tensor] = {}
        apply(random_batch(), state, name=name)
        kept[name] = sorted(state)
    assert {name: keys for name, keys in kept.items() if keys} == {
        "napo": ["R0"],
        "alpha-dpo": ["gap_mean", "gap_std", "gap_weight"],
        "beta-dpo": ["M0", "draws", "gap_std"],
    }


def test_a_batch_needs_negatives() -> None:
    one = torch.zeros(2)
    with pytest.raises(UserError, match="K >= 1"):
        PreferenceBatch(one, torch.zeros(2, 0), one, torch.zeros(2, 0))
    with pytest.raises(UserError, match="preferred"):
        PreferenceBatch(one, torch.zeros(3, 1), one, torch.zeros(3, 1))
