"""The body of jobs/benchmark.py: a sweep over methods for each data set, then one table of all."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from raypref.config import RunConfig
from raypref.config.loading import override
from raypref.config.systems import SYSTEMS
from raypref.data.names import named_source, source_content
from raypref.storage.store import Store, digest
from raypref.sweeps.job import EXIT_TRIALS_FAILED, exit_code, job_console
from raypref.sweeps.methods import METHOD, method_changes
from raypref.sweeps.options import SweepOptions, parse
from raypref.sweeps.space import SweepConfig, load_sweep
from raypref.sweeps.sweep import run_sweep

EXAMPLES = """

Examples:
  python jobs/benchmark.py --preset classical --data.source.path ml-100k
  python jobs/benchmark.py --datasets generated --methods popularity sasrec sft sdpo recpo
"""


class BenchmarkConfig(SweepConfig):
    """Methods, and which of them a config preset asks for."""

    presets: Mapping[str, tuple[str, ...]] = {}
    """The methods of a config preset where they are not all."""


@dataclasses.dataclass
class BenchmarkOptions(SweepOptions):
    """Options of the benchmark."""

    methods: tuple[str, ...] | None = None
    """Methods instead of the preset's: random, popularity, gru4rec, caser, sasrec, morec, zero-shot, chatrec, sft,
    tallrec, llara, or any objective; `custom` is the config's own (docs/own_objective.md)."""
    datasets: tuple[str, ...] | None = None
    """Kinds of data source, each with its default path under $RAYPREF_DATA; none: the config's own source."""


def main(sweep_file: Path, arguments: list[str] | None = None) -> None:
    """Run the benchmark from the command line; exits as `exit_code` says."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(exit_code(lambda: run(sweep_file, given)))


def run(sweep_file: Path, arguments: list[str]) -> int:
    """The exit code of a benchmark."""
    console = job_console()
    declared = load_sweep(sweep_file, BenchmarkConfig)
    options, config, origins = parse(BenchmarkOptions, arguments, declared.question + EXAMPLES)
    methods: Any = options.methods or declared.presets.get(options.preset) or declared.space[METHOD]
    changes = {"space": {METHOD: methods}} | ({} if options.seeds is None else {"seeds": options.seeds})
    if config.transfer is not None:
        changes |= _elsewhere(methods, config, named=options.methods is not None)
    changes |= {"whole_seeds": options.whole_seeds or declared.whole_seeds}
    content = declared.model_dump(exclude={"presets"})
    sweep = SweepConfig.model_validate(content | changes)
    bases = _bases(config, options.datasets)
    folders = {name: run_sweep(sweep, base, options, origins, console) for name, base in bases.items()}
    done = {name: folder for name, folder in folders.items() if folder is not None}
    if not done:
        return 0
    return 0 if conclude(done, sweep, Store(options.root), console) else EXIT_TRIALS_FAILED


def _elsewhere(methods: Sequence[Any], config: RunConfig, named: bool) -> dict[str, Any]:
    """Changes to a sweep over a data set that nothing was trained on: only methods that read titles can be asked.

    Those of the sweep's file that can't are left out; one that was `named` is refused with the rest of its config. The
    reference is `sft` if it is there, else the first.
    """
    at_home = config.model_copy(update={"transfer": None})
    able = [m for m in methods if named or not SYSTEMS[method_changes(str(m), at_home)["system"]].bound]
    return {"space": {METHOD: able}, "default": {METHOD: "sft" if "sft" in able else able[0]}}


def _bases(config: RunConfig, datasets: tuple[str, ...] | None) -> dict[str, RunConfig]:
    if datasets is None:
        return {_called(config): config}
    for name in datasets:
        named_source(name)
    bases = [override(config, {"data.source": source_content(name)}, f"--datasets {name}") for name in datasets]
    return {_called(base): base for base in bases}


def _called(base: RunConfig) -> str:
    """What the table is headed by."""
    trained = base.data.source.kind
    return trained if base.transfer is None else f"{trained} to {base.transfer.source.kind}"


def conclude(folders: Mapping[str, Path], sweep: SweepConfig, store: Store, console: Console) -> bool:
    """Collect each sweep, write the benchmark's tables, print them; did every trial end well?"""
    from raypref.results.benchmark import benchmark
    from raypref.results.benchmark_files import tables_of, write_benchmark
    from raypref.results.collect import collect
    from raypref.results.conclusion import conclude as conclude_sweep
    from raypref.results.render import rich_table

    quiet = Console(quiet=True)
    well = [
        conclude_sweep(folder, store.location, console if len(folders) == 1 else quiet) for folder in folders.values()
    ]
    collections = {name: collect(folder, store.location) for name, folder in folders.items()}
    reference = str((sweep.default or {}).get(METHOD, "popularity"))
    found = benchmark({name: c for name, c in collections.items() if not c.done.empty}, reference)
    out = store.root / "benchmarks" / f"{sweep.name}-{digest(sorted(f.name for f in folders.values()))}"
    write_benchmark(found, sweep.question, out)
    for folder in (*folders.values(), out):
        store.send(folder)
    for table in tables_of(found):
        console.print(rich_table(table))
    console.print(f"\nbenchmark: {out / 'benchmark.html'}", highlight=False, soft_wrap=True)
    return all(well)
