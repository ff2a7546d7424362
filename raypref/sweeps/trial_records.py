"""What a sweep's folder says of each trial: `trials/<id>.json`, written by whoever knows more than the file does."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raypref.errors import UserError
from raypref.storage.store import Store, read_json, write_json
from raypref.sweeps.methods import METHOD
from raypref.sweeps.space import Trial, setting_key

LONGEST_NAME = 120  # characters of a trial's folder before seed and id; file systems take 255
ENDED = ("done", "failed", "pruned")


def record_path(folder: Path, trial: str) -> Path:
    """`trial`: its id."""
    return folder / "trials" / f"{trial}.json"


def read_record(folder: Path, trial: Trial) -> dict[str, Any]:
    """A trial's record, empty where there is none that belongs to it."""
    record = read_json(record_path(folder, trial.id))
    return record if record.get("evaluate") == str(trial.chain.evaluate.address) else {}


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a sweep that can be read, in the order in which the trials started."""
    found = [read_json(path) for path in (folder / "trials").glob("*.json") if not path.name.startswith(".")]
    return sorted(filter(None, found), key=lambda record: record.get("started") or record.get("ended") or "")


def new_record(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.id,
        "label": trial.label,
        "file_name": file_name(trial),
        "params": dict(trial.params),
        "seed": trial.seed,
        "align": str(trial.chain.trained.address),
        "evaluate": str(trial.chain.evaluate.address),
        "stages": [str(stage.address) for stage in trial.chain],
    }


def file_name(trial: Trial) -> str:
    """The label as a folder's name: `recpo-lambda=2-seed=1-0f3a...`; the id tells apart what is left of long ones."""
    settings = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in trial.params.items() if key != METHOD]
    told = re.sub(r"[^\w.,=+-]", "_", "-".join([trial.method, *settings]), flags=re.ASCII)
    return f"{told[:LONGEST_NAME]}-seed={trial.seed}-{trial.id}"


def done_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """What a finished trial's record says of its stages: what was trained, if anything, and the evaluation."""
    trained = _trained(facts)
    return {
        "status": "done",
        "error": None,
        "train_seconds": trained.get("train_seconds"),
        "evaluate_seconds": facts["evaluate"]["evaluate_seconds"],
        "peak_memory_gb": trained.get("peak_memory_gb"),
        "metrics": {split: facts["evaluate"][split] for split in ("validation", "test") if split in facts["evaluate"]},
    }


def failed(record: dict[str, Any], error: Exception) -> dict[str, Any]:
    """The record of a trial that can't go on, and why: a user's error as it is, any other with its traceback."""
    what = str(error) if isinstance(error, UserError) else "".join(traceback.format_exception(error, limit=-3))
    return record | {"status": "failed", "error": what, "ended": now()}


def _trained(facts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next((of for kind, of in facts.items() if kind != "evaluate"), {})
    return found


def overhead(record: dict[str, Any], facts: dict[str, Any], asked: float, ended: float) -> dict[str, Any]:
    """Seconds of a trial outside the training loop and the evaluation: in all, before the first step, after the last.

    Before, since the driver asked for it: the trial's process, Ray's group of workers, imports, the model, the first
    batch. After: the end of the group, reports. What is left lies between the stages, where the aligned model is
    written; to load it again counts as evaluation. An interrupted trial has its lost work among it, and no parts.
    """
    trained, evaluate = _trained(facts), facts["evaluate"]
    inside = trained.get("train_seconds", 0.0) + evaluate["evaluate_seconds"]
    outside = {"overhead_seconds": round(record["seconds"] - inside, 2)}
    if trained.get("began", 0) > asked and not trained.get("resumed_at"):
        outside["start_seconds"] = round(trained["began"] - asked, 2)
        outside["end_seconds"] = round(ended - evaluate["finished"], 2)
    return outside


def finished_before(trial: Trial, store: Store, folder: Path) -> dict[str, Any] | None:
    """The record of a trial whose addresses are all done, whoever computed them; None if there is work left."""
    run = trial.chain
    if not all(store.done(stage.address) for stage in run.own):
        return None
    record = read_record(folder, trial)
    if record.get("status") == "done":
        return record
    facts = {stage.kind: store.manifest(stage.address)["facts"] for stage in run.own}
    record = new_record(trial) | done_fields(facts) | {"seconds": None, "started": None, "ended": now()}
    write_json(record_path(folder, trial.id), record)
    return record


def ended_before(trials: Sequence[Trial], store: Store, folder: Path, pruning: bool) -> dict[str, dict[str, Any]]:
    """Records by id of the trials that need not run.

    Where trials are pruned, a pruned one has ended, and with it its setting's other seeds.
    """
    records = {trial.id: finished_before(trial, store, folder) for trial in trials}
    if pruning:
        last = {trial.id: read_record(folder, trial) for trial in trials if records[trial.id] is None}
        pruned = {setting_key(t.params): last[t.id] for t in trials if last.get(t.id, {}).get("status") == "pruned"}
        records |= {
            id: pruned[key] for t in trials if (id := t.id) in last and (key := setting_key(t.params)) in pruned
        }
    return {id: record for id, record in records.items() if record is not None}


def final_record(trial: Trial, folder: Path, stopped: bool) -> dict[str, Any]:
    """Close the record of a trial that Tune is through with; one that still runs was stopped, or its process died."""
    record = read_record(folder, trial)
    if record.get("status") in ENDED:
        return record
    if stopped:
        said = {"status": "pruned", "error": "stopped before its time: it validated worse than others"}
    else:
        said = {"status": "failed", "error": "the trial's process died: see Ray's logs"}
    record = new_record(trial) | record | said | {"ended": now()}
    write_json(record_path(folder, trial.id), record)
    return record


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
