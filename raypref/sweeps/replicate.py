"""The body of jobs/replicate.py: a study is a benchmark of named method variants, and what the papers claim of them."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from rich.console import Console
from typing_extensions import Self

from raypref.config.base import lookup
from raypref.config.loading import override, validated
from raypref.errors import UserError
from raypref.results.claims import claims
from raypref.results.contrasts import Contrast
from raypref.storage.store import Store, write_json
from raypref.sweeps.job import EXIT_TRIALS_FAILED, exit_code, job_console
from raypref.sweeps.methods import METHOD
from raypref.sweeps.options import SweepOptions, parse
from raypref.sweeps.space import SweepConfig, load_sweep
from raypref.sweeps.sweep import run_sweep

DESCRIPTION = """The papers' comparisons, run anew: who is better than whom, and does that agree with what they print?

Studies: {studies}. Data sets: {datasets}, or any kind of source (`raypref data list`).

Examples:
  python jobs/replicate.py --study main --dataset ml-100k --dry-run
  python jobs/replicate.py --study probes --dataset generated --seeds 5
  python jobs/replicate.py --study main --dataset ml-100k --write docs/results.md
  python jobs/replicate.py --study main --dataset ml-100k --only sft sdpo recpo --no-ray
  python jobs/replicate.py --study main --dataset ml-100k --tune 8
"""
NOTES = {
    "lastfm": "S-DPO's sequences, candidates drawn anew, its validation file",
    "lastfm-sdpo": "as published: its lists give the targets away; its validation file",
}
"""What must stand beside every number of a data set."""


class StudyConfig(SweepConfig):
    """A paper's comparison: method variants, and what is claimed of pairs of them."""

    space: Mapping[str, Any] = Field(default={}, exclude=True)
    """Follows from the variants."""
    reference: str
    """The variant that the others are tested against in the benchmark's table."""
    base: Mapping[str, Any] = {}
    """Config keys that the whole study changes."""
    contrasts: tuple[Contrast, ...] = ()
    """What is claimed; none: what the registry (`raypref claims`) has under the study's name."""

    @model_validator(mode="before")
    @classmethod
    def _claims_of_the_registry(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("contrasts"):
            registered = claims().get(str(values.get("name")), ())
            if not registered:
                raise ValueError("no claims: give `contrasts`, or name the study as one of `raypref claims`")
            return {**values, "contrasts": registered}
        return values

    @model_validator(mode="after")
    def _names_are_variants(self) -> Self:
        named = {self.reference, *(n for c in self.contrasts for n in (c.first, c.second))}
        unknown = sorted(named - set(self.variants))
        if unknown:
            raise ValueError(f"no variant is called {', '.join(unknown)}; there are: {', '.join(self.variants)}")
        return self

    def sweep(self, only: tuple[str, ...] | None = None, seeds: int | None = None) -> SweepConfig:
        """The study as a sweep over its variants, or over some of them, with as many seeds as it says or as given.

        Raises:
            UserError: one of them is no variant.
        """
        names = tuple(self.variants) if only is None else only
        unknown = [name for name in names if name not in self.variants]
        if unknown:
            raise UserError(
                f"study {self.name} has no variant {', '.join(unknown)}",
                where="--only",
                hint="there are: " + ", ".join(self.variants),
            )
        reference = self.reference if self.reference in names else names[0]
        content = {name: getattr(self, name) for name in ("question", "whole_seeds", "variants")}
        content |= {"seeds": self.seeds if seeds is None else seeds, "space": {METHOD: names}}
        content |= {"name": f"replicate-{self.name}", "default": {METHOD: reference}}
        return validated(SweepConfig, content, f"study {self.name}")


@dataclasses.dataclass
class ReplicateOptions(SweepOptions):
    """Options of a study."""

    preset: str = "replicate"
    """Settings to start from; replicate is sized for two CPU cores."""
    study: str = "main"
    """Which of the studies; read before the rest, as --dataset is."""
    only: tuple[str, ...] | None = None
    """Only these variants, and the claims of them alone."""
    tune: int = 0
    """Tune each method first, with so many settings (sweeps/tuning.yaml), chosen by exact HR@1 on validation; as it was
    it stays a row, NAME-untuned. 0: the preset's own settings for all."""
    write: Path | None = None
    """A page with markers (docs/results.md) whose part for this study and data set is written anew, with the rows as
    Parquet beside it."""


def main(folder: Path, arguments: list[str] | None = None) -> None:
    """Run a study from the command line; exits as `exit_code` says."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(exit_code(lambda: run(folder, given)))


def run(folder: Path, arguments: list[str]) -> int:
    """The exit code of a study; `folder` holds the studies, and in `data` what each data set changes in a config."""
    console = job_console()
    asked, rest = _named(arguments, {"--study": "main", "--dataset": "generated"})
    studies, datasets = _files(folder), _files(folder / "data")
    description = DESCRIPTION.format(studies=", ".join(studies), datasets=", ".join(datasets))
    study = load_sweep(lookup(asked["--study"], studies, "study"), StudyConfig)
    dataset = asked["--dataset"]
    laid = ["--config", str(datasets[dataset])] if dataset in datasets else ["--dataset", dataset]
    if laid[0] == "--config" and any(a.split("=")[0] == "--config" for a in rest):
        raise UserError(
            "a file over the preset, and a data set that is one itself", where="--config",
            hint="give keys on the command line, or a kind of source by --dataset",
        )  # fmt: skip
    options, config, origins = parse(ReplicateOptions, [*laid, *rest], description)
    sweep = study.sweep(options.only, options.seeds)
    config = override(config, dict(study.base), f"study {study.name}")
    origins |= dict.fromkeys(study.base, f"study {study.name}")
    tried: list[dict[str, Any]] = []
    if options.tune:
        from raypref.sweeps.fair_tuning import tuned_study

        space = folder.parent / "tuning.yaml"
        sweep, config, tried = tuned_study(sweep, config, options.tune, space, options, origins, console)
    done = run_sweep(sweep, config, options, origins, console)
    if done is None:
        return 0
    if tried:
        account = json.loads((done / "sweep.json").read_text())
        write_json(done / "sweep.json", account | {"tuning": tried})
    return 0 if conclude(done, study, sweep, dataset, options, console) else EXIT_TRIALS_FAILED


def conclude(
    folder: Path, study: StudyConfig, sweep: SweepConfig, dataset: str, options: ReplicateOptions, console: Console
) -> bool:
    """Collect, write the benchmark's tables and the verdicts, print them; did every trial end well?"""
    from raypref.results.benchmark import benchmark
    from raypref.results.benchmark_files import tables_of, write_benchmark
    from raypref.results.collect import collect
    from raypref.results.conclusion import conclude as conclude_sweep
    from raypref.results.contrasts import contrast_cells, contrast_table
    from raypref.results.docs_page import write_section
    from raypref.results.plotting import save_figure
    from raypref.results.render import rich_table
    from raypref.results.tuned import read_tried, tuning_cells, tuning_figure, tuning_table

    store = Store(options.root)
    well = conclude_sweep(folder, store.location, Console(quiet=True))
    collection = collect(folder, store.location)
    if collection.done.empty:
        raise UserError("no trial of this study has finished", where=str(folder), hint="see the trials' errors there")
    planned = set(sweep.variants).intersection(map(str, _listed(sweep)))
    asked = [c for c in study.contrasts if {c.first, c.second} <= planned]
    claims = contrast_table(collection, asked)
    tried = read_tried(collection.sweep)
    label = dataset + (f" ({NOTES[dataset]})" if dataset in NOTES else "")
    found = benchmark({label: collection}, str((sweep.default or {})[METHOD]))
    verdicts = contrast_cells(claims, label)
    more = [verdicts, tuning_cells(tried)] if tried else [verdicts]
    write_benchmark(found, study.question, folder, more)
    claims.to_csv(folder / "claims.csv", index=False)
    if tried:
        tuning_table(tried).to_csv(folder / "tuning.csv", index=False)
        save_figure(lambda: tuning_figure(tried), folder / "tuning")
    for table in (*tables_of(found), *more):
        console.print(rich_table(table))
    if options.write is not None:
        write_section(options.write, f"{study.name} on {dataset}", collection, label, found.reference, asked)
    console.print(f"\nstudy: {folder / 'benchmark.html'}", highlight=False, soft_wrap=True)
    return well


def _listed(sweep: SweepConfig) -> tuple[Any, ...]:
    values = sweep.space[METHOD]
    return values if isinstance(values, tuple) else ()


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _named(arguments: list[str], defaults: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The values of some options, given as `--name value` or `--name=value`, and the other arguments."""
    found, rest, given = dict(defaults), [], iter(arguments)
    for argument in given:
        name, _, value = argument.partition("=")
        if name in defaults:
            found[name] = value or next(given, "")
        else:
            rest.append(argument)
    return found, rest
