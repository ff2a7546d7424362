"""`raypref rescore`: an outside system's scores join a benchmark's table."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from raypref.errors import UserError
from raypref.stages.prepare import data_config, prepare_stage
from raypref.storage.store import Store
from raypref.sweeps.options import RunOptions, parse

DESCRIPTION = """An outside system's scores join a table: a Parquet of user, item (ids as in the data set) and score.

Every candidate of every evaluated user needs a score; `--pairs FILE` writes which those are.

Examples:
  raypref rescore --preset classical --pairs pairs.parquet
  raypref rescore --preset classical --scores mine.parquet --called mine --table ROOT/sweeps/benchmark-classical-...
"""


@dataclasses.dataclass
class RescoreOptions(RunOptions):
    """Options of rescore."""

    program: ClassVar[str] = "raypref rescore"
    scores: Path | None = None
    """Parquet with the columns user, item and score; greater is better."""
    called: str = "outside"
    """What the table calls the system."""
    pairs: Path | None = None
    """Write here the user and item of every pair that needs a score, and stop."""
    table: Path | None = None
    """A benchmark's sweep folder (ROOT/sweeps/...): the system becomes one of its methods."""
    of_seed: int = 0
    """The system's seed, where several runs of it join one table."""


def rescore(arguments: list[str]) -> int:
    """Write rows of an outside system; the exit code."""
    options, config, _ = parse(RescoreOptions, arguments, DESCRIPTION)
    if not re.fullmatch(r"[\w.-]+", options.called):
        hint = "letters, digits, '.', '-' and '_' only, as it becomes part of a folder's name"
        raise UserError(f"'{options.called}' is no name", where="--called", hint=hint)
    store, stage = Store(options.root), prepare_stage(data_config(config, transfer=True))
    prepared = store.path(stage.address)
    if not store.done(stage.address):
        raise UserError(
            f"the examples are not there: {stage.address}",
            where=str(store.root),
            hint="run a job with the same data options first, or give its --root",
        )
    if options.pairs is None and options.scores is None:
        raise UserError("no scores are given", hint="give --scores FILE, or --pairs FILE to see what they must cover")
    from raypref.commands import outside_scores  # pandas and the metrics: not for a typing mistake

    console = Console()
    if options.pairs is not None:
        wanted = outside_scores.pairs(prepared, config)
        wanted.to_parquet(options.pairs, index=False)
        console.print(f"{len(wanted):,} pairs: {options.pairs}", highlight=False)
        return 0
    assert options.scores is not None  # or it has been refused
    address, headline = outside_scores.write_rows(options.scores, options.called, options.of_seed, config, store, stage)
    console.print(f"{options.called}: {headline}; {store.path(address)}", highlight=False)
    if options.table is not None:
        outside_scores.join_table(options.table, options.called, options.of_seed, address, stage.address)
        console.print("joined; draw the table again with `raypref collect` or the benchmark's command", highlight=False)
    return 0
