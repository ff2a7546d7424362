"""A run by itself, recorded and concluded as a sweep of one trial: `<root>/runs/<name>-<key>/`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from raypref.config.base import leaves
from raypref.config.loading import dump
from raypref.config.systems import SYSTEMS
from raypref.results.collect import collect
from raypref.results.conclusion import draw
from raypref.results.labels import metric_label
from raypref.results.report import write_report
from raypref.results.training_curves import write_training
from raypref.stages.stage import AlignedChain, Chain, Stage
from raypref.storage.store import Store, write_json
from raypref.sweeps.account import account_of
from raypref.sweeps.space import SweepConfig, Trial
from raypref.sweeps.trial_records import done_fields, failed, new_record, now, record_path

RUNS, RESULTS = "runs", "results.json"
SHOWN = ("generated_hr@1", "valid_ratio", "exact_hr@1", "exact_ndcg@5")


def run_folder(run: Chain, store: Store) -> Path:
    """Where a run's record and report lie."""
    return store.root / RUNS / f"{run.config.name}-{run.evaluate.address.key}"


def record_run(run: Chain, store: Store) -> Path:
    """Write down that the run is begun, and what it is; its folder."""
    folder, trial = run_folder(run, store), _trial(run)
    write_json(folder / "sweep.json", account_of(_sweep(run), run.config, run))
    write_json(record_path(folder, trial.id), new_record(trial) | {"status": "running", "started": now()})
    store.send(folder)
    return folder


def record_failure(run: Chain, store: Store, folder: Path, error: Exception) -> None:
    """Write down that the run can't go on, and why."""
    trial = _trial(run)
    write_json(record_path(folder, trial.id), failed(new_record(trial), error))
    store.send(folder)


def conclude_run(run: Chain, store: Store, folder: Path, console: Console) -> str:
    """Record a finished run, leave its numbers as JSON and its report, print both in short; a user to ask about."""
    trial = _trial(run)
    facts = {stage.kind: store.manifest(stage.address)["facts"] for stage in run.own}
    record = new_record(trial) | done_fields(facts) | {"seconds": None, "started": None, "ended": now()}
    write_json(record_path(folder, trial.id), record)
    found = {_varied(run)[1]: facts["evaluate"]}
    if isinstance(run, AlignedChain) and store.done(run.evaluate_sft.address):
        found = {"SFT": store.manifest(run.evaluate_sft.address)["facts"], **found}
    addresses = {stage.kind: str(stage.address) for stage in run}
    write_json(folder / RESULTS, finite({"addresses": addresses, "evaluations": found}))
    collection = collect(folder, store.location)
    write_training(collection, folder)
    draw(collection, folder)
    write_report(collection, folder)
    store.send(folder)
    _print(found, run, store, console)
    trained = store.path(run.trained.address)
    if (trained / "model").is_dir():
        console.print(f"model: {trained}", highlight=False, soft_wrap=True)
    console.print(f"numbers: {folder / RESULTS}", highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return _some_user(run, store)


def _print(found: dict[str, dict[str, Any]], run: Chain, store: Store, console: Console) -> None:
    split = next((name for name in ("test", "validation") if all(name in facts for facts in found.values())), None)
    if split is None:
        return
    table = Table(title=f"on {split}", title_justify="left")
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for metric in (name for name in SHOWN if any(name in facts[split] for facts in found.values())):
        values = (facts[split].get(metric) for facts in found.values())
        table.add_row(metric_label(metric), *("-" if value is None else f"{value:.3f}" for value in values))
    table.add_row("examples", *(f"{facts[split]['examples']:,}" for facts in found.values()))
    console.print(table)
    if (by_chance := chance(run.evaluate, store, split)) is not None:
        console.print(f"chance: HR@1 {by_chance:.3f}", highlight=False)


def _some_user(run: Chain, store: Store) -> str:
    """The id of a user who was evaluated."""
    asked = pq.read_table(store.path(run.evaluate.address) / "rows.parquet", columns=["user"])["user"][0].as_py()
    users = pq.read_table(store.path(run.evaluate.inputs["prepare"].address) / "users.parquet")
    return str(users["user_id"][users["user"].to_pylist().index(asked)].as_py())


def chance(stage: Stage, store: Store, split: str) -> float | None:
    """HR@1 of a guess among each example's candidates; None where the rows name none."""
    path = store.path(stage.address) / "rows.parquet"
    if "candidates" not in pq.read_schema(path).names:
        return None
    rows = pq.read_table(path, columns=["split", "candidates"])
    listed = pc.list_value_length(rows.filter(pc.equal(rows["split"], split))["candidates"])
    return float(pc.mean(pc.divide(1.0, listed)).as_py())


def finite(content: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _varied(run: Chain) -> tuple[str, str]:
    """The config key that names what the run is of, and its value."""
    config = run.config
    key = SYSTEMS[config.system].varied
    return key, str(dict(leaves(dump(config)))[key])


def _sweep(run: Chain) -> SweepConfig:
    key, value = _varied(run)
    return SweepConfig(name="run", question=f"What does {value} give?", space={key: (value,)}, seeds=1)


def _trial(run: Chain) -> Trial:
    key, value = _varied(run)
    return Trial(0, {key: value}, run.config.align.seed, run)
