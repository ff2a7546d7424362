"""A whole sweep: shared stages once, then the trials, then what they say."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from raypref.config import RunConfig
from raypref.config.loading import dump
from raypref.experiment import DISK_PER_RUN, Runner, print_plan, resources_line, run_chain
from raypref.provenance import provenance
from raypref.shortages import print_shortages
from raypref.stages.chain import AlignedChain, Chain, Stage
from raypref.stages.in_process import InProcess
from raypref.store import Store, digest, write_json
from raypref.sweeps.methods import METHOD_KEY, SEEDLESS
from raypref.sweeps.options import SweepOptions
from raypref.sweeps.space import SweepConfig, Trial, default_setting, trials
from raypref.sweeps.table import LiveTable


def sweep_folder(sweep: SweepConfig, base: RunConfig, store: Store) -> Path:
    """One folder for a question asked of one base config: a wider space or more seeds extend it."""
    asked = {"base": dump(base) | {"resources": None}, "keys": sorted(sweep.space)}
    return store.root / "sweeps" / f"{sweep.name}-{base.name}-{digest(asked)}"


def run_sweep(
    sweep: SweepConfig, base: RunConfig, options: SweepOptions, origins: dict[str, str], console: Console
) -> Path | None:
    """Run what is not done yet; the folder with the results, None for a dry run.

    Ray is started only where there is something to compute.
    """
    store = Store(options.root)
    planned = trials(sweep, base)
    folder = sweep_folder(sweep, base, store)
    shared = planned[0].chain
    if options.dry_run:
        _print_dry_run(console, sweep, planned, store, origins, folder)
        return None
    store.check_space(DISK_PER_RUN * (1 + len(planned)) // 4)
    from raypref.sweeps import runtime
    from raypref.sweeps.tuning import concurrency, finished_before, run_trials

    console.print(f"{sweep.question}\n{len(planned)} trials; results under {folder}", highlight=False)
    write_json(folder / "sweep.json", _account(sweep, base, shared))
    todo = [trial for trial in planned if finished_before(trial, store, folder) is None]
    # By address: one stage serves all trials, unless the sweep varies something before alignment.
    needed = {str(stage.address): (trial.chain, stage) for trial in planned for stage in trial.chain.shared}
    say: Callable[[str], None] = lambda line: console.print(line, highlight=False, soft_wrap=True)  # noqa: E731
    runner: Runner = InProcess(store)
    if options.ray:
        if todo or any(not store.done(stage.address) for _, stage in needed.values()):
            runtime.connect(options.verbose)
        from raypref.stages.on_ray import OnRay

        runner = OnRay(store)
    for run, stage in needed.values():
        run_chain(run, [stage], store, runner, say)
    started = time.time()
    if todo and not options.ray:
        with LiveTable(console, len(todo)) as live:
            for trial in todo:
                for stage in trial.chain.own:
                    runner(trial.chain, stage)
                live.ended(trial, finished_before(trial, store, folder) or {})
    elif todo:
        concurrent = min(concurrency(base), len(todo))
        say(f"trials    {len(planned) - len(todo)} done before, {len(todo)} to run, {concurrent} at a time")
        with LiveTable(console, len(todo)) as live:
            run_trials(todo, store, folder, f"{folder.name}-{int(started)}", concurrent, options.verbose, live.ended)
    else:
        say(f"trials    all {len(planned)} done before")
    return folder


def _shared(planned: list[Trial]) -> list[Stage]:
    """The stages before the trials' own, each once."""
    return list({str(stage.address): stage for trial in planned for stage in trial.chain.shared}.values())


def _account(sweep: SweepConfig, base: RunConfig, shared: Chain) -> dict[str, Any]:
    from raypref.sweeps.space import symbol

    one_method = METHOD_KEY not in sweep.space
    return {
        "name": sweep.name,
        "question": sweep.question,
        "space": {key: list(values) for key, values in sweep.space.items()},
        "symbols": {key: symbol(key) for key in sweep.space},
        "seeds": list(range(sweep.seeds)),
        "default": default_setting(sweep, base),
        "method": base.align.objective.name if one_method else None,
        "fixed": {METHOD_KEY: list(SEEDLESS)},
        "dataset": base.data.source.kind,
        "config": dump(base),
        "sft": str(shared.evaluate_sft.address) if isinstance(shared, AlignedChain) and one_method else None,
        "command": " ".join(["python", *sys.argv]),
        "provenance": provenance(),
    }


def _print_dry_run(
    console: Console, sweep: SweepConfig, planned: list[Trial], store: Store, origins: dict[str, str], folder: Path
) -> None:
    shared = _shared(planned)
    print_plan(console, planned[0].chain, store, origins, shared)
    console.print(f"\ntrials, each asking for {resources_line(planned[0].chain.config)}:", highlight=False)
    missing = 0
    for trial in planned:
        done = all(store.done(stage.address) for stage in trial.chain.own)
        missing += not done
        state = "done" if done else "to do"
        console.print(f"  {trial.label:<40} {state:<6} {trial.chain.evaluate.address}", highlight=False, soft_wrap=True)
    stages = sum(not store.done(stage.address) for stage in shared)
    console.print(
        f"\nto do: {stages} shared stage(s), {missing} of {len(planned)} trials; results: {folder}", highlight=False
    )
    print_shortages(console, planned[0].chain.config, store, missing)
