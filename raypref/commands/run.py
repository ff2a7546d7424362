"""`raypref run`: one run, on Ray or in this process; it ends as a sweep does."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import ClassVar

from rich.console import Console

from raypref.errors import UserError
from raypref.experiment import DISK_PER_RUN, Runner, print_plan, resources_line, run_chain
from raypref.narration import Narrator
from raypref.shortages import check_data, print_room, print_shortages
from raypref.stages.chain import chain
from raypref.stages.stage import AlignedChain
from raypref.storage.store import Store
from raypref.sweeps.options import RunOptions, parse

ONLY_OF_RUN = ("--ray", "--no-ray", "--dry-run", "--verbose")


@dataclasses.dataclass
class SingleRunOptions(RunOptions):
    """Options of a single run."""

    program: ClassVar[str] = "raypref run"
    ray: bool = True
    """Run on Ray; --no-ray: in this process, as on a GPU machine without Ray."""


def run(arguments: list[str]) -> int:
    """Run all stages of one config; the exit code."""
    options, config, origins = parse(SingleRunOptions, arguments, "One run: prepare, fine-tune, align, evaluate.")
    console = Console(width=None if sys.stdout.isatty() else 160)
    store, planned = Store(options.root), chain(config)
    stages = list(planned)
    if options.dry_run:
        print_plan(console, planned, store, origins, stages)
        console.print(f"each training stage asks for {resources_line(config)}", highlight=False)
        print_shortages(console, config, store, 1)
        print_room(console, planned, planned if isinstance(planned, AlignedChain) else None, store, options.thorough)
        return 0
    store.check_space(DISK_PER_RUN)
    from raypref.expectation import expected_line

    say = Narrator(console)
    say(expected_line([(planned, stage) for stage in stages], store, ray=options.ray))
    with say.step("importing torch and transformers"):  # not for --help, nor for a typing mistake
        from raypref.stages.in_process import InProcess
        from raypref.sweeps.single import conclude_run, record_failure, record_run

    check_data(planned, store)
    folder = record_run(planned, store)
    runner: Runner = InProcess(store)
    if options.ray and not all(store.done(stage.address) for stage in stages):
        with say.step("starting Ray"):
            from raypref.cluster import connect

            connect.connect(options.verbose)
            from raypref.cluster.on_ray import OnRay

        runner = OnRay(store)
    try:
        run_chain(planned, stages, store, runner, say, say.making)
    except UserError as error:
        record_failure(planned, store, folder, error)
        raise
    with say.step("drawing the report"):
        user = conclude_run(planned, store, folder, console)
    kept = [argument for argument in arguments if argument not in ONLY_OF_RUN]
    say(f"next: {shlex.join(['raypref', 'recommend', *kept, '--user', user])}")
    return 0
