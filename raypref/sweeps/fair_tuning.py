"""Tune the methods of a study alike: each gets as many settings, and its row is the one that is best on validation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import qmc

from raypref.config import RunConfig
from raypref.config.base import leaves, unknown_key
from raypref.config.loading import dump, override, read_yaml, validated
from raypref.config.recommender import FittedConfig
from raypref.errors import UserError
from raypref.results.labels import setting_text
from raypref.results.tuned import MEASURE, UNTUNED, Tried, chosen_settings
from raypref.sweeps.methods import METHOD
from raypref.sweeps.options import SweepOptions
from raypref.sweeps.space import Range, SweepConfig, TuningSpace, make_trial
from raypref.sweeps.sweep import run_sweep
from raypref.sweeps.trial_records import read_records

SFT = "sft"
VALIDATED = {
    "splits": ["validation"],
    "generate": False,
    "beams": 0,
    "catalog": "none",
    "constrain": "none",
    "orders": 1,
}
"""What is evaluated of a setting that is tried."""
STOPPED_EARLY = {"keep": "hr@1", "validations": 4}
"""Of a training that is tuned: the weights of its best validation HR@1 are kept."""
SECTIONS = {"aligned": "align", SFT: SFT}
"""Where a system's learning rate and length stand; fitted recommenders stop early by themselves."""

Changes = dict[str, Any]


def points(config: RunConfig, method: str, fixed: Mapping[str, Any], budget: int, space: TuningSpace) -> list[Changes]:
    """The settings of one method: the config's own, then points of Halton's sequence (scrambled, seed 0).

    Learning rates and lengths are the same for all methods; a greater budget begins with the points of a smaller one.
    Values have two significant digits.

    Args:
        config: a run of the method.
        fixed: keys that are not to be tuned, as the method's variant sets them.

    Raises:
        UserError: the space names a key that the method lacks.
    """
    content = dict(leaves(dump(config)))
    section = SECTIONS.get(config.system, "baseline")
    ranges = {f"{section}.learning_rate": space.learning_rate}
    if config.system in SECTIONS:
        steps = content[f"{section}.max_steps"] is not None
        ranges[f"{section}.max_steps" if steps else f"{section}.epochs"] = space.length
    relative = set(ranges)
    ranges |= space.own.get(method, {})
    if unknown := sorted(set(ranges) - set(content)):
        raise UserError(
            unknown_key(unknown[0], set(content)), where=f"sweeps/tuning.yaml, own: {method}",
            hint="name a key of the method's config (see --help)",
        )  # fmt: skip
    tuned = [key for key in ranges if key not in fixed]
    settings = [{key: content[key] for key in tuned}]
    for drawn in qmc.Halton(len(ranges), scramble=True, seed=0).random(budget - 1).tolist():
        shares = dict(zip(ranges, drawn))
        units = {key: content[key] if key in relative else 1 for key in tuned}
        values = {key: float(f"{_at(ranges[key], shares[key]) * units[key]:.2g}") for key in tuned}
        settings.append({key: max(1, round(v)) if isinstance(content[key], int) else v for key, v in values.items()})
    return settings


def _at(values: Range, share: float) -> float:
    """The point of a range that lies at a share of it."""
    if not values.log:
        return values.low + share * (values.high - values.low)
    return math.exp(math.log(values.low) + share * (math.log(values.high) - math.log(values.low)))


@dataclasses.dataclass
class FairTuning:
    """Tries `budget` settings of each method of a study, the base config's own first, with seed 0.

    What is tried lies in sweeps of its own, so that the same command repeats nothing, and a greater budget adds to it.
    """

    sweep: SweepConfig
    """A study over `method`."""
    budget: int
    space: TuningSpace
    options: SweepOptions
    origins: dict[str, str]
    console: Console
    tried: list[Tried] = dataclasses.field(default_factory=list)

    def tune(self, base: RunConfig) -> tuple[RunConfig, dict[str, Changes]]:
        """Tune SFT, then, from the SFT model that was chosen, the aligned methods and the fitted recommenders.

        Returns:
            the base with the chosen SFT, and the study's variants: the tuned ones, and `NAME-untuned`, as they were.

        Raises:
            UserError: a method of which no setting could be trained.
        """
        names = [str(name) for name in self.sweep.space[METHOD]]
        before = {name: self._config(base, name) for name in names}
        tunable = [name for name in names if name != SFT and _is_tuned(before[name])]
        if any(config.system in SECTIONS for config in before.values()):
            self._try(base, [SFT])
        fine_tuned = chosen_settings(self.tried).get(SFT, {})
        started = override(base, fine_tuned, "--tune")
        self._try(started, tunable)
        chosen, old = chosen_settings(self.tried), dict(leaves(dump(base)))
        variants: dict[str, Changes] = {}
        for name in names:
            variants[name] = {**self._variant(name), **chosen.get(name, {})}
            if name in chosen:
                as_it_was = {key: old[key] for key in fine_tuned if before[name].system in SECTIONS}
                variants[f"{name}{UNTUNED}"] = {**as_it_was, **self._variant(name)}
        return started, variants

    def _variant(self, name: str) -> Changes:
        """What a method changes in the base, its own name first."""
        return {METHOD: name, **self.sweep.variants.get(name, {})}

    def _config(self, base: RunConfig, name: str) -> RunConfig:
        return make_trial(self._sweep({name: self._variant(name)}, ""), base, {METHOD: name}, 0, 0).chain.config

    def _sweep(self, variants: Mapping[str, Changes], ending: str) -> SweepConfig:
        names = list(variants)
        content: Changes = {"name": f"{self.sweep.name}-tuning{ending}", "variants": variants, "seeds": 1}
        content |= {"question": "Which setting of each method is best on validation?"}
        content |= {"space": {METHOD: names}, "default": {METHOD: names[0]}}
        return validated(SweepConfig, content, f"tuning of {self.sweep.name}")

    def _try(self, base: RunConfig, names: list[str]) -> None:
        """Run every setting of some methods as the variants of one sweep, on validation alone."""
        asked: dict[str, Tried] = {}
        variants: dict[str, Changes] = {}
        for name in names:
            config, own = self._config(base, name), self._variant(name)
            section = SECTIONS.get(config.system)
            early = {f"{section}.{key}": value for key, value in STOPPED_EARLY.items()} if section else {}
            for place, setting in enumerate(points(config, str(own[METHOD]), own, self.budget, self.space)):
                label = f"{name}: {setting_text(setting)}"
                asked[label] = Tried(name, setting, early, None, place == 0)
                variants[label] = {**own, **setting, **early}
        if not asked:
            return
        measured = override(base, {f"evaluation.{key}": value for key, value in VALIDATED.items()}, "--tune")
        ending = "-sft" if names == [SFT] else ""
        folder = run_sweep(self._sweep(variants, ending), measured, self.options, self.origins, self.console)
        records = [] if folder is None else read_records(folder)
        for record in records:
            if record.get("status") == "done" and record["params"][METHOD] in asked:
                label = record["params"][METHOD]
                asked[label] = dataclasses.replace(asked[label], value=record["metrics"]["validation"].get(MEASURE))
        self.tried += asked.values()
        if folder is not None and (lost := set(names) - set(chosen_settings(self.tried))):
            raise UserError(
                f"no setting of {', '.join(sorted(lost))} could be trained", where="--tune",
                hint=f"see the trials' errors under {folder}",
            )  # fmt: skip


def tuned_study(
    sweep: SweepConfig,
    base: RunConfig,
    budget: int,
    space: Path,
    options: SweepOptions,
    origins: dict[str, str],
    console: Console,
) -> tuple[SweepConfig, RunConfig, list[dict[str, Any]]]:
    """A study after each of its methods was tuned with `budget` settings, its base, and what was tried (`Tried`).

    Args:
        space: the file that says what may change.

    Raises:
        UserError: a budget below 2, or a method of which no setting could be trained.
    """
    if budget < 2:
        raise UserError("tuning tries two settings of a method or more", where="--tune", hint="give --tune 8")
    declared = validated(TuningSpace, read_yaml(space), str(space))
    own = dataclasses.replace(options, limit=None, decide=None, seeds=None)
    tuning = FairTuning(sweep, budget, declared, own, origins, console)
    started, variants = tuning.tune(base)
    content = sweep.model_dump() | {"variants": variants, "space": {METHOD: list(variants)}}
    rows = [dataclasses.asdict(each) for each in tuning.tried]
    return validated(SweepConfig, content, f"study {sweep.name}"), started, rows


def _is_tuned(config: RunConfig) -> bool:
    """Whether a learning rate of the method's own decides about it."""
    return config.system in SECTIONS or (config.system == "baseline" and isinstance(config.baseline, FittedConfig))
