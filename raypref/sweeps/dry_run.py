"""What a sweep would do, said without doing it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from raypref.experiment import print_plan, resources_line
from raypref.shortages import print_room, print_shortages
from raypref.stages.stage import AlignedChain
from raypref.storage.store import Store
from raypref.sweeps.forecast import margin_line, power_line
from raypref.sweeps.space import SweepConfig, Trial, setting_key
from raypref.sweeps.trial_records import read_record


def print_dry_run(
    console: Console,
    sweep: SweepConfig,
    planned: list[Trial],
    store: Store,
    origins: dict[str, str],
    folder: Path,
    thorough: bool,
) -> None:
    """Print stages, trials, what they ask for, what could be seen, and what is missing."""
    shared = planned[0].chain
    stages = list({str(s.address): s for t in planned for s in t.chain.shared}.values())
    print_plan(console, shared, store, origins, stages)
    aligned = next((t.chain for t in planned if isinstance(t.chain, AlignedChain)), None)
    print_room(console, aligned or shared, aligned, store, thorough)
    console.print(f"trials, each asking for {resources_line(shared.config)}:", highlight=False)
    missing = 0
    for trial in planned:
        done = all(store.done(stage.address) for stage in trial.chain.own)
        missing += not done
        state = "done" if done else read_record(folder, trial).get("status", "to do").replace("running", "to do")
        console.print(f"  {trial.label:<40} {state:<6} {trial.chain.evaluate.address}", highlight=False, soft_wrap=True)
    unproposed = 0 if sweep.search == "grid" else max(0, sweep.trials - len(planned) // sweep.seeds)
    if unproposed:
        console.print(f"  and {unproposed} settings that {sweep.search} will propose, {sweep.seeds} seed(s) each")
    missing += unproposed * sweep.seeds
    settings = len({setting_key(trial.params) for trial in planned}) + unproposed
    missing_stages = sum(not store.done(stage.address) for stage in stages)
    total = len(planned) + unproposed * sweep.seeds
    for line in (power_line(planned, settings, sweep.seeds, store), margin_line(planned, store)):
        if line:
            console.print(line, highlight=False, soft_wrap=True)
    console.print(
        f"\nto do: {missing_stages} shared stage(s), {missing} of {total} trials; results: {folder}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    print_shortages(console, shared.config, store, missing)
