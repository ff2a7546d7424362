"""The body of every script in jobs/: options, the sweep, the collector, the answer."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from raypref.config import RunConfig
from raypref.config.loading import plain_faults
from raypref.errors import UserError
from raypref.messages import INTERRUPTED
from raypref.narration import Narrator
from raypref.storage.store import Store
from raypref.sweeps.options import SweepOptions, parse
from raypref.sweeps.space import SweepConfig, load_sweep
from raypref.sweeps.sweep import run_sweep

EXIT_USER_ERROR = 2
EXIT_TRIALS_FAILED = 3
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXAMPLES = """

Examples:
  python jobs/{name}.py --dry-run
  python jobs/{name}.py --preset smoke --seeds 1 --limit 2{more}
  python jobs/{name}.py --dataset ml-100k --data.source.path ml-100k
  ray job submit --working-dir . -- python jobs/{name}.py --preset llama3-8b-lora --root /shared/raypref
"""


@dataclasses.dataclass
class JobOptions(SweepOptions):
    """Options of a job that asks one question."""

    write: Path | None = None
    """A page (docs/results.md) whose part for this question and data set is written anew, between its markers, with the
    rows as Parquet and the figures beside it."""


def main(sweep_file: Path, arguments: list[str] | None = None) -> None:
    """Run a sweep from the command line; exits as `exit_code` says."""
    sys.exit(run(sweep_file, sys.argv[1:] if arguments is None else arguments))


def run(sweep_file: Path, arguments: list[str]) -> int:
    """The exit code of a sweep."""
    return exit_code(lambda: _run(sweep_file, arguments))


def exit_code(work: Callable[[], int]) -> int:
    """What `work` gives (0, or 3: trials failed); 2 for a mistake that can be mended, 130 where it was interrupted."""
    try:
        return work()
    except UserError as error:
        print_error(error)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return EXIT_INTERRUPTED


def job_console() -> Console:
    """A console as wide as the terminal, or as tables need it in a log."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _run(sweep_file: Path, arguments: list[str]) -> int:
    console = job_console()
    sweep = load_sweep(sweep_file, SweepConfig)
    description = sweep.question + EXAMPLES.format(name=sweep.name, more=_examples(sweep))
    options, config, origins = parse(JobOptions, arguments, description, sweep.objective)
    sweep = _with_options(sweep.space_of(config.align.objective.name), options)
    folder = run_sweep(sweep, config, options, origins, console)
    if folder is None:
        return 0
    well = _conclude(folder, Store(options.root), console)
    if options.write is not None:
        _write(options.write, sweep, config, folder, Store(options.root))
    return 0 if well else EXIT_TRIALS_FAILED


def print_error(error: UserError) -> None:
    """What is wrong, on stderr."""
    text = str(error).replace("[", "\\[")
    Console(stderr=True).print(f"[bold red]error:[/] {text}", highlight=False, soft_wrap=True)


def _with_options(sweep: SweepConfig, options: SweepOptions) -> SweepConfig:
    given = {name: getattr(options, name) for name in ("seeds", "search", "trials", "pruner")}
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    changes["whole_seeds"] = options.whole_seeds or sweep.whole_seeds
    if options.values is not None:
        if len(sweep.space) != 1:
            raise UserError(
                "--values is for sweeps over one key", where=", ".join(sweep.space), hint="edit the YAML file"
            )
        changes["space"] = {next(iter(sweep.space)): options.values}
    search = changes.get("search", sweep.search)
    if search == "grid" and (options.trials is not None or options.add_trials):
        raise UserError(
            "a grid has as many trials as its values", where="--trials, --add-trials",
            hint="widen it by --values or --seeds, or choose another --search",
        )  # fmt: skip
    try:
        return SweepConfig.model_validate(sweep.model_dump() | changes)
    except ValidationError as error:
        raise UserError(plain_faults(error), where=f"sweep {sweep.name} with these options") from None


def _examples(sweep: SweepConfig) -> str:
    """Examples of what this sweep alone can do."""
    command = f"\n  python jobs/{sweep.name}.py"
    by_method = "".join(f"{command} --method {method}" for method in sweep.by_objective)
    return by_method + (f"{command} --add-trials 10" if sweep.search != "grid" else "")


def _write(page: Path, sweep: SweepConfig, config: RunConfig, folder: Path, store: Store) -> None:
    """The sweep's section of a page."""
    from raypref.results.collect import collect
    from raypref.results.docs_page import write_sweep_section

    method = config.align.objective.name
    asked_of = "" if sweep.objective in (None, method) else f" ({method})"
    write_sweep_section(page, f"{sweep.name} on {config.data.source.kind}{asked_of}", collect(folder, store.location))


def _conclude(folder: Path, store: Store, console: Console) -> bool:
    """Collect, draw, say the answer; did every trial end well?"""
    from raypref.results.conclusion import conclude

    with Narrator(console).step("collecting and drawing"):
        well = conclude(folder, store.location, console)
    store.send(folder)
    return well
