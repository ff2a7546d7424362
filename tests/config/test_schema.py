"""`raypref schema`: every shipped YAML file is valid by it, and what the config refuses is not."""

from __future__ import annotations

import json

import pytest
import yaml

from raypref.commands.schema import json_schema, schema
from raypref.config import RunConfig
from raypref.config.loading import presets
from raypref.sweeps.benchmark import BenchmarkConfig
from raypref.sweeps.replicate import StudyConfig
from raypref.sweeps.space import SweepConfig, TuningSpace
from tests.support.processes import CHECKOUT

jsonschema = pytest.importorskip("jsonschema")
SECTIONS = {"replicate": StudyConfig, "data": RunConfig, "tuning": TuningSpace, "benchmark": BenchmarkConfig}
SWEEPS = sorted((CHECKOUT / "sweeps").rglob("*.yaml"))


def faults(content, section) -> list[str]:
    checker = jsonschema.Draft202012Validator(json_schema(section))
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in checker.iter_errors(content)]


@pytest.mark.parametrize("path", presets().values(), ids=lambda path: path.stem)
def test_presets_are_valid(path):
    assert faults(yaml.safe_load(path.read_text()), RunConfig) == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_are_valid(path):
    section = SECTIONS.get(path.parent.name) or SECTIONS.get(path.stem) or SweepConfig
    assert faults(yaml.safe_load(path.read_text()), section) == []


@pytest.mark.parametrize(
    "content",
    [
        {"sft": {"learning_rate": -1}},
        {"sft": {"learning_rat": 0.1}},
        {"data": {"source": {"kind": "csv", "usr": "u"}}},
        {"align": {"objective": {"name": "no-such"}}},
        {"model": {"kind": "scratch", "vocabulary": 3}},
    ],
)
def test_what_the_config_refuses_is_not_valid(content):
    assert faults(content, RunConfig)


def test_keys_have_their_help_and_their_own_spelling(capsys):
    assert schema() == 0
    said = json.loads(capsys.readouterr().out)
    assert said["properties"]["name"]["description"].startswith("A word for people")
    assert "lambda" in said["$defs"]["Recpo"]["properties"]
    assert schema("sweep") == 0
    assert "space" in json.loads(capsys.readouterr().out)["properties"]
