"""Wherever a config has several sections to choose among, the command line chooses by the section's name."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from raypref.config import RunConfig
from raypref.config.recommender import Caser, Popularity
from raypref.errors import UserError
from raypref.sweeps import options
from raypref.sweeps.options import UNIONS, RunOptions, parse

ENDS = [(key, name) for key, found in UNIONS.items() for name in (min(found), max(found))]  # each takes a parser


def sections(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is Annotated:
        return sections(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for part in get_args(annotation) for found in sections(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def unions(section: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every place of a config where one of several sections may stand, found by the annotations alone."""
    for name, field in section.model_fields.items():
        found = sections(field.annotation)
        if len(found) > 1:
            yield f"{path}{name}"
        for part in found:
            yield from unions(part, f"{path}{name}.")


def test_no_union_is_left_out() -> None:
    assert {key.rsplit(".", 1)[0] for key in UNIONS} == set(unions(RunConfig))


@pytest.mark.parametrize(("key", "name"), ENDS)
def test_a_section_is_chosen_by_its_name(key: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "located", lambda config: config)  # public data need not be here
    outer = {"transfer": ["--system", "sft"], "model": ["--model.kind", "adapted"] if "base" in key else []}
    more = outer.get(key.split(".")[0], [])
    _, config, _ = parse(RunOptions, [f"--{key}", name, *more, "--dry-run"], "")
    section: Any = config
    for part in key.split(".")[:-1]:
        section = getattr(section, part)
    assert type(section) is UNIONS[key][name]


def test_the_chosen_section_has_its_own_options() -> None:
    asked = ["--system", "baseline", "--baseline.recommender=caser", "--baseline.window", "3"]
    _, config, origins = parse(RunOptions, asked, "")
    assert config.baseline == Caser(window=3)
    assert origins["baseline.recommender"] == origins["baseline.window"] == "command line"
    _, config, _ = parse(RunOptions, ["--system", "baseline", "--baseline.recommender", "popularity"], "")
    assert config.baseline == Popularity()


def test_defaults_of_a_chosen_objective_are_not_said_to_be_given() -> None:
    asked = ["--objective", "sdpo", "--align.objective.beta", "0.5", "--preset", "smoke"]
    _, _, origins = parse(RunOptions, asked, "")
    given = {key for key, origin in origins.items() if origin == "command line"}
    assert given == {"align.objective.name", "align.objective.beta"}


def test_a_misspelt_objective_is_called_one() -> None:
    with pytest.raises(UserError, match="no objective is called 'spdo'"):
        parse(RunOptions, ["--objective", "spdo"], "")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no recommender is called 'popularty'") as refused:
        parse(RunOptions, ["--baseline.recommender", "popularty"], "")
    assert "did you mean 'popularity'?" in str(refused.value)
