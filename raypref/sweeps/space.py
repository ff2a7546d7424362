"""What a sweep varies: a YAML file in sweeps/ declares it, nothing else does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from raypref.config import RunConfig
from raypref.config.base import Frozen, leaves, unknown_key
from raypref.config.loading import dump, override, read_yaml, validated
from raypref.errors import UserError
from raypref.results.labels import same, setting_text
from raypref.stages.chain import chain
from raypref.stages.stage import Chain
from raypref.storage.store import digest
from raypref.sweeps.methods import METHOD, method_changes, seed_changes, seed_key

Value = float | int | str | bool
EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")
METHOD_KEY = "align.objective.name"
DEFAULT_TRIALS = 20


class Range(Frozen):
    """Numbers from `low` to `high`, both included: whole ones if both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Search on a logarithmic scale."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be less than high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale has no low = {self.low}")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


def _as_number(value: Any) -> Any:
    """1e-5, which YAML takes for text as it lacks a point, as the number that it is."""
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


Choice = Annotated[Value, BeforeValidator(_as_number)]
Choices = Annotated[tuple[Choice, ...], Field(min_length=1)]
Space = Annotated[Mapping[str, Choices | Range], Field(min_length=1)]


Declared = TypeVar("Declared", bound="SweepConfig")


class SweepConfig(Frozen):
    """A question, and the space of settings that answers it."""

    name: str
    """The job's name."""
    question: str
    """What is asked, in a sentence."""
    objective: str | None = None
    """The objective it is asked of; none: the run's own."""
    space: Space
    """Dotted config keys, each with the values it takes, or with a range for the searches that draw."""
    by_objective: Mapping[str, Space] = {}
    """Spaces of other objectives that the same question can be asked of (`--method`)."""
    search: Literal["grid", "random", "tpe", "gp", "nsga2"] = "grid"
    """grid: all combinations; the others draw settings one after another (Optuna's samplers)."""
    trials: Annotated[int, Field(ge=1)] = DEFAULT_TRIALS
    """Settings in all, the default one and those of earlier runs included; a grid has as many as it has."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("exact_hr@1",)
    """What a search maximizes, on the validation split, as means over the seeds; several make a Pareto front."""
    pruner: Literal["none", "asha", "median"] = "none"
    """Ends trials that validate badly before their time; not for grids, whose curves need every trial whole."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Repetitions of each setting, with its training's seed = 0, 1, ...; one where no seed changes the result."""
    whole_seeds: bool = False
    """A repetition of an aligned method repeats fine-tuning too, not alignment alone."""
    variants: Mapping[str, Mapping[str, Any]] = {}
    """Methods under names of one's own: `method`, if it differs from the name, and the config keys that differ."""
    beside: tuple[str, ...] = ()
    """Recommenders that are fitted once and evaluated on the same candidates; the best is a line in the curves."""
    cost: bool = False
    """Whether the question is also what the settings cost: the answer then says it."""
    default: Mapping[str, Choice] | None = None
    """The setting that others are compared with; none: the base config's own values."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for space in (self.space, *self.by_objective.values()):
            ranges = [key for key, values in space.items() if isinstance(values, Range)]
            if ranges and self.search == "grid":
                raise ValueError(f"a grid needs lists of values, and {ranges[0]} has a range (or take search: tpe)")
        if self.pruner != "none" and self.search == "grid":
            raise ValueError("a pruner cuts a grid's trials short, and its curve would be of other trials' best")
        if self.pruner != "none" and len(self.metrics) > 1:
            raise ValueError("a pruner looks at one metric, and this search has several")
        return self

    def space_of(self, objective: str) -> SweepConfig:
        """The same question with the space that `objective` has of its own, if any."""
        return self.model_copy(update={"space": self.by_objective.get(objective, self.space)})


class TuningSpace(Frozen):
    """What `--tune` may change of each method of a study: `sweeps/tuning.yaml`."""

    learning_rate: Range
    """Multiples of the base config's."""
    length: Range
    """Multiples of the base config's steps, or of its epochs where it sets no steps."""
    own: Mapping[str, Annotated[Mapping[str, Range], Field(min_length=1)]] = {}
    """By method: keys of its own, and their values."""


@dataclass(frozen=True)
class Trial:
    """One setting with one seed."""

    number: int
    params: Mapping[str, Value]
    seed: int
    chain: Chain

    @property
    def id(self) -> str:
        """The key of its evaluation's address: the same in every sweep that holds this trial."""
        return self.chain.evaluate.address.key

    @property
    def method(self) -> str:
        return str(self.params.get(METHOD, self.chain.config.align.objective.name))

    @property
    def label(self) -> str:
        """What people call it: `recpo λ=2 seed=1`."""
        shown = setting_text({key: value for key, value in self.params.items() if key not in (METHOD, METHOD_KEY)})
        return " ".join(filter(None, [self.method, shown, f"seed={self.seed}"]))


def load_sweep(path: Path, kind: type[Declared]) -> Declared:
    """Read a sweep's YAML file."""
    return validated(kind, read_yaml(path), str(path))


def make_trial(sweep: SweepConfig, base: RunConfig, setting: Mapping[str, Value], seed: int, number: int) -> Trial:
    """Raises: UserError: a value that the config refuses, named with the sweep."""
    config = _configured(sweep, base, setting)
    config = override(config, seed_changes(config, seed, sweep.whole_seeds), f"sweep {sweep.name}")
    return Trial(number, setting, seed, chain(config))


def _configured(sweep: SweepConfig, base: RunConfig, setting: Mapping[str, Value]) -> RunConfig:
    changes = {key: value for key, value in setting.items() if key != METHOD}
    if METHOD in setting:
        name = str(setting[METHOD])
        own = dict(sweep.variants.get(name, {}))
        changes |= method_changes(str(own.pop(METHOD, name)), base) | own
    return override(base, changes, f"sweep {sweep.name}")


def trials(sweep: SweepConfig, base: RunConfig, settings: Iterable[Mapping[str, Value]]) -> list[Trial]:
    """Every setting with every seed that changes it; all checked before anything runs."""
    pairs = [
        (seed, setting)
        for seed, setting in itertools.product(range(sweep.seeds), settings)
        if seed == 0 or seed_key(_configured(sweep, base, setting)) is not None
    ]
    return [make_trial(sweep, base, setting, seed, number) for number, (seed, setting) in enumerate(pairs)]


def grid(sweep: SweepConfig, base: RunConfig) -> list[dict[str, Value]]:
    """All combinations of the space's values, the default setting first."""
    lists = {key: values for key, values in sweep.space.items() if not isinstance(values, Range)}
    return with_default_first(
        default_setting(sweep, base), [dict(zip(lists, point)) for point in itertools.product(*lists.values())]
    )


def with_default_first(default: dict[str, Value], settings: Iterable[dict[str, Value]]) -> list[dict[str, Value]]:
    """The settings, each once, after the default one."""
    return list({setting_key(setting): setting for setting in (default, *settings)}.values())


def setting_key(setting: Mapping[str, Value]) -> str:
    """The same for two settings if they are one, 1 and 1.0 being the same value."""
    return digest({key: float(value) if isinstance(value, (int, float)) else value for key, value in setting.items()})


def contains(sweep: SweepConfig, setting: Mapping[str, Any]) -> bool:
    """Whether a setting is one of the space's."""
    if setting.keys() != sweep.space.keys():
        return False
    return all(_within(values, setting[key]) for key, values in sweep.space.items())


def _within(values: tuple[Value, ...] | Range, value: Any) -> bool:
    if isinstance(values, Range):
        return isinstance(value, (int, float)) and values.low <= value <= values.high
    return any(same(value, other) for other in values)


def default_setting(sweep: SweepConfig, base: RunConfig) -> dict[str, Any]:
    """The sweep's default setting, else the base config's own values of the swept keys.

    Raises:
        UserError: a key that the config lacks.
    """
    if sweep.default is not None:
        return dict(sweep.default)
    content = dict(leaves(dump(base)))
    for key in sweep.space:
        if key not in content:
            raise UserError(
                unknown_key(key, set(content)).replace("unknown key", "the sweep varies an unknown key"),
                where=f"sweep {sweep.name}, objective {base.align.objective.name}",
                hint="choose a key of the config (see --help), or another --objective",
            )
    return {key: content[key] for key in sweep.space}


def check_ends(sweep: SweepConfig, base: RunConfig) -> None:
    """Refuse a space whose ends the config refuses, before anything is drawn from it."""
    for key, values in sweep.space.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            override(base, {key: value}, f"sweep {sweep.name}")


def instead_of_search(sweep: SweepConfig) -> str:
    """The way out where an option is for grids alone; a range has no grid."""
    if any(isinstance(values, Range) for values in sweep.space.values()):
        return "leave it out"
    return "leave it out, or give --search grid"
