"""What a sweep varies: a YAML file in sweeps/ declares it, nothing else does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator

from raypref.config import RunConfig
from raypref.config.base import Frozen, unknown_key
from raypref.config.loading import dump, leaves, override, read_yaml, validated
from raypref.errors import UserError
from raypref.stages.chain import Chain, chain
from raypref.sweeps.methods import METHOD_KEY, method_changes, seed_key

Value = float | int | str | bool
SYMBOLS = {"lambda": "λ", "alpha": "α", "rho": "ρ", "u_beta": "U_β", "beta": "β", "negatives": "K"}


Declared = TypeVar("Declared", bound="SweepConfig")


class SweepConfig(Frozen):
    """A question, and the grid of settings that answers it."""

    name: str
    """The job's name."""
    question: str
    """What is asked, in a sentence."""
    objective: str | None = None
    """The objective it is asked of; none: the run's own."""
    space: Mapping[str, tuple[Value, ...]]
    """Dotted config keys and the values that each takes."""
    search: Literal["grid"] = "grid"
    """grid: all combinations."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Repetitions of each setting, with its training's seed = 0, 1, ...; one where no seed changes the result."""
    default: Mapping[str, Value] | None = None
    """The setting that others are compared with; none: the base config's own values."""

    @field_validator("space")
    @classmethod
    def _has_values(cls, space: Mapping[str, tuple[Value, ...]]) -> Mapping[str, tuple[Value, ...]]:
        if not space or not all(space.values()):
            raise ValueError("each key needs at least one value, and there must be a key")
        return space


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
    def label(self) -> str:
        """What people call it: `recpo λ=2 seed=1`."""
        shown = " ".join(f"{symbol(key)}={value:g}" if isinstance(value, float) else f"{symbol(key)}={value}"
                         for key, value in self.params.items())  # fmt: skip
        return f"{self.heading} {shown} seed={self.seed}".strip()

    @property
    def heading(self) -> str:
        """The objective, which all trials share; nothing where the sweep varies the method."""
        return "" if METHOD_KEY in self.params else self.chain.config.align.objective.name


def symbol(key: str) -> str:
    """The papers' letter for a config key, else its last part."""
    last = key.rsplit(".", 1)[-1]
    return SYMBOLS.get(last, last)


def load_sweep(path: Path, kind: type[Declared]) -> Declared:
    """Read a sweep's YAML file."""
    return validated(kind, read_yaml(path), str(path))


def trials(sweep: SweepConfig, base: RunConfig) -> list[Trial]:
    """Every setting with every seed, the default setting first; all checked before anything runs.

    Raises:
        UserError: a key that the config lacks, or a value that it refuses, named with the sweep.
    """
    content = dict(leaves(dump(base)))
    for key in sweep.space:
        if key not in content:
            raise UserError(
                unknown_key(key, set(content)).replace("unknown key", "the sweep varies an unknown key"),
                where=f"sweep {sweep.name}, objective {base.align.objective.name}",
                mend="choose a key of the config (see --help), or another --objective",
            )
    default = default_setting(sweep, base)
    settings = [dict(zip(sweep.space, values)) for values in itertools.product(*sweep.space.values())]
    settings.sort(key=lambda setting: setting != default)  # stable: the default first, the rest as declared
    made: list[Trial] = []
    for seed in range(sweep.seeds):
        for setting in settings:
            changes = method_changes(str(setting[METHOD_KEY]), base) if METHOD_KEY in setting else {}
            config = override(base, {**setting, **changes}, f"sweep {sweep.name}")
            varied = seed_key(config)
            if varied is None and seed:
                continue
            config = config if varied is None else override(config, {varied: seed}, f"sweep {sweep.name}")
            made.append(Trial(len(made), setting, seed, chain(config)))
    return made


def default_setting(sweep: SweepConfig, base: RunConfig) -> dict[str, Any]:
    """The sweep's, else the base config's own values of the swept keys."""
    if sweep.default is not None:
        return dict(sweep.default)
    content = dict(leaves(dump(base)))
    return {key: content[key] for key in sweep.space}
