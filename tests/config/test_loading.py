"""Configs: bad input is refused in words, good input survives overriding, merging and dumping."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from raypref.config import RunConfig
from raypref.config.base import leaves, lookup
from raypref.config.loading import dump, load, merge, override, presets, read_yaml, validated
from raypref.config.model import PretrainedModel
from raypref.config.objectives import Recpo, Sdpo
from raypref.config.sources import CsvSource, GeneratedSource, MovieLens100KSource
from raypref.errors import UserError
from raypref.objectives import OBJECTIVES


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


FAULTS = {
    # typing errors in keys, at every depth
    "lamda": ({"align.objective.lamda": 1}, "unknown key 'lamda': did you mean 'lambda'?"),
    "top level": ({"aling": {}}, "unknown key 'aling': did you mean 'align'?"),
    "section": ({"sft.learning_rat": 1e-3}, "unknown key 'learning_rat': did you mean 'learning_rate'?"),
    "deep": ({"data.candidates.eval_randoms": 3}, "unknown key 'eval_randoms': did you mean 'eval_random'?"),
    "nothing like it": (
        {"evaluation.xyz": 1},
        "unknown key 'xyz': known keys: batch, beams, catalog, constrain, generate, max_examples, orders, splits",
    ),
    # values out of range
    "negative lambda": (
        {"align.objective.lambda": -1},
        "lambda: Input should be greater than or equal to 0 (given: -1)",
    ),
    "lambda nan": ({"align.objective.lambda": float("nan")}, "lambda: Input should be a finite number"),
    "no negatives": ({"align.negatives": 0}, "align.negatives: Input should be greater than or equal to 1"),
    "K too great": (
        {"align.negatives": 20},
        "align.negatives = 20, but an example has 19 candidates beside its target: take at most 19, or raise data.",
    ),
    "batch over workers": (
        {"sft.global_batch": 10, "resources.workers": 4},
        "sft.global_batch = 10 does not divide among resources.workers = 4",
    ),
    "fewest workers": (
        {"resources.min_workers": 4, "resources.workers": 2, "resources.engine": "torch"},
        "min_workers = 4 is more than workers = 2",
    ),
    "elastic ZeRO": (
        {"resources.min_workers": 1, "resources.workers": 2},
        "min_workers: a checkpoint of ZeRO 2 fits one number of workers; take engine torch, zero_stage 0, or leave",
    ),
    "heads": (
        {"model": {"kind": "scratch", "hidden_size": 30, "heads": 4}},
        "hidden_size 30 is not a multiple of heads 4",
    ),
    "warm-up": ({"align.warmup": 1.0}, "align.warmup: Input should be less than 1"),
    "zero stage": ({"resources.zero_stage": 4}, "resources.zero_stage: Input should be 0, 1, 2 or 3 (given: 4)"),
    "name": ({"name": "a/b"}, "'a/b': letters, digits"),
    # wrong types
    "word for number": ({"sft.learning_rate": "fast"}, "unable to parse string as a number (given: 'fast')"),
    "list for number": ({"align.negatives": [3]}, "align.negatives: Input should be a valid integer (given: [3])"),
    "number for section": ({"data": 3}, "data: Input should be a valid dictionary"),
    "fraction for count": ({"sft.global_batch": 2.5}, "got a number with a fractional part (given: 2.5)"),
    "bool": ({"prompt.ratings": "perhaps"}, "prompt.ratings: Input should be a valid boolean"),
    # tags of unions
    "objective": ({"align.objective": {"name": "sdop"}}, "'sdop' found using 'name' does not match"),
    "source": ({"data.source": {"kind": "ml100k"}}, "'ml100k' found using 'kind' does not match"),
    "foreign key": ({"align.objective": {"name": "ipo", "beta": 1}}, "'ipo' takes no 'beta': tau alone sets the scale"),
    "idle key": ({"align.objective": {"name": "sdpo", "lambda": 1}}, "'lambda' has no effect: margin is 'none'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_named_with_its_key(fault: str) -> None:
    changes, expected = FAULTS[fault]
    content = dump(RunConfig())
    for key, value in changes.items():
        content = merge(content, nested(key, value))
    with pytest.raises(UserError) as caught:
        validated(RunConfig, content, "my.yaml")
    assert expected in str(caught.value)
    assert "where: my.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 12  # one screen
    for key in changes:
        assert key.split(".")[0] in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    content = {"sft": {"learning_rate": -1, "clip": 0}, "align": {"negatives": "three"}}
    with pytest.raises(UserError) as caught:
        validated(RunConfig, content, "x")
    for key in ("sft.learning_rate", "sft.clip", "align.negatives"):
        assert f"  {key}: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("sft: {learning_rate: 1", "not valid YAML"),
        ("sft:\n\tepochs: 1\n", "not valid YAML"),
        ("a: 1\nb: [\n", "line 3"),
        ("- one\n- two\n", "no mapping of keys to values"),
        ("just words", "no mapping of keys to values"),
    ],
)
def test_yaml_faults_name_the_file(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=what) as caught:
        load("tiny", path)
    assert caught.value.where == str(path)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}


def test_a_name_that_is_no_choice() -> None:
    with pytest.raises(UserError, match="no preset is called 'tinny'") as caught:
        load("tinny")
    assert caught.value.hint == "did you mean 'tiny'?"
    assert lookup("a", {"a": 1}, "thing") == 1


@pytest.mark.parametrize("preset", presets())
def test_presets_load(preset: str) -> None:
    config, origins = load(preset)
    assert config.name == preset
    assert set(origins.values()) == {f"preset {preset}"}
    assert validated(RunConfig, dump(config), "again") == config


def test_the_papers_settings_are_the_papers() -> None:
    for preset in ("llama3-8b-lora", "qwen2.5-7b-lora"):
        config, _ = load(preset)
        assert isinstance(config.model, PretrainedModel)
        assert config.model.lora is not None
        for training in (config.sft, config.align):
            assert (training.learning_rate, training.warmup, training.global_batch) == (1e-5, 0.05, 128)
        assert isinstance(config.align.objective, Recpo)
        assert (config.align.negatives, config.align.objective.beta) == (3, 1.0)
        assert (config.resources.engine, config.resources.zero_stage) == ("deepspeed", 2)


def test_a_file_lies_over_its_preset_and_origins_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sft: {epochs: 7}\nalign:\n  objective: {name: sdpo, beta: 0.5}\n")
    base, _ = load("tiny")
    config, origins = load("tiny", path)
    assert config.sft.epochs == 7
    assert config.sft.learning_rate == base.sft.learning_rate
    assert config.align.objective == Sdpo(beta=0.5)
    assert origins["sft.epochs"] == str(path)
    assert origins["sft.learning_rate"] == "preset tiny"


def test_override_changes_one_key_and_says_where_a_fault_came_from() -> None:
    config = RunConfig()
    changed = override(config, {"align.objective.lambda": 0.5, "sft.seed": 3}, "the sweep")
    assert isinstance(changed.align.objective, Recpo)
    assert (changed.align.objective.lambda_, changed.sft.seed) == (0.5, 3)
    assert override(changed, {"align.objective.lambda": 2.0, "sft.seed": 0}, "back") == config
    with pytest.raises(UserError, match="where: the sweep"):
        override(config, {"align.objective.lambda": -1}, "the sweep")


def test_a_section_of_another_kind_starts_from_its_own_defaults() -> None:
    config = override(RunConfig(), {"data.source.users": 7, "align.objective.lambda": 0.25}, "x")
    assert config.data.source == GeneratedSource(users=7)
    other = override(config, {"data.source": {"kind": "csv", "path": "a.csv"}}, "x")
    assert other.data.source == CsvSource(path=Path("a.csv"))
    assert override(other, {"data.source": {"user": "who"}}, "x").data.source == CsvSource(
        path=Path("a.csv"), user="who"
    )
    assert override(config, {"align.objective": {"name": "sdpo"}}, "x").align.objective == Sdpo()
    assert override(config, {"align.objective": {"beta": 3}}, "x").align.objective == Recpo(beta=3, lambda_=0.25)
    assert override(config, {"data.source.kind": "ml-100k"}, "x").data.source == MovieLens100KSource()


def test_merge_leaves_its_arguments_alone() -> None:
    base, over = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}}
    assert merge(base, over) == {"a": {"b": 5, "c": 2}, "d": 3}
    assert (base, over) == ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_dumped_config_is_read_back_as_it_was(objective: str) -> None:
    config = override(RunConfig(), {"align.objective": {"name": objective}}, "x")
    assert config.align.objective.name == objective
    again = validated(RunConfig, dump(config), "x")
    assert again == config
    assert dump(again) == dump(config)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "sft.learning_rate": st.floats(1e-9, 1),
            "sft.max_steps": st.none() | st.integers(1, 1000),
            "align.negatives": st.integers(1, 19),
            "align.objective.lambda": st.floats(0, 100),
            "model.lora": st.none() | st.just({"rank": 4, "target_modules": ["q_proj"]}),
            "evaluation.splits": st.just(["test"]),
            "data.k_core": st.integers(1, 30),
        },
    )
)
def test_any_config_is_read_back_as_it_was(changes: dict[str, Any]) -> None:
    config = override(RunConfig(), changes, "x")
    assert validated(RunConfig, dump(config), "x") == config
    content = dict(leaves(dump(config)))
    for key, value in changes.items():
        assert key not in content or content[key] == value


def test_a_config_can_t_be_changed() -> None:
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.sft.epochs = 3.0  # type: ignore[misc]


def test_an_environment_changes_no_config(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dump(RunConfig())
    monkeypatch.setitem(os.environ, "SFT_EPOCHS", "9")
    assert dump(RunConfig()) == before
