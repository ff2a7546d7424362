"""Reading what a sweep leaves on disk, whole or not: a trial that can't be used is listed with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raypref.errors import UserError
from raypref.storage.location import Location
from raypref.storage.store import MANIFEST

NUMBERS = ("seconds", "train_seconds", "evaluate_seconds", "overhead_seconds", "peak_memory_gb")
TEXTS = ("label", "status", "align", "evaluate", "error", "started", "ended")
STATES = ("done", "running", "failed", "pruned", "incomplete", "unreadable", "superseded")


class Unusable(Exception):
    """Why an evaluation's rows can't be used."""


def read_sweep(folder: Location) -> dict[str, Any]:
    """The account of a sweep.

    Raises:
        UserError: no sweep lies there, or its account is broken.
    """
    path = folder / "sweep.json"
    again = "run the sweep's job again: it writes the account anew and repeats no finished trial"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "name a folder <root>/sweeps/<name>-<hash>, as the job prints it"
        raise UserError("no sweep lies in this folder: it has no sweep.json", where=str(folder), hint=hint) from None
    except (OSError, ValueError) as error:
        raise UserError(f"the sweep's account can't be read: {error}", where=str(path), hint=again) from error
    if not isinstance(content, dict) or not isinstance(content.get("space"), dict):
        raise UserError("the sweep's account does not say what it varies", where=f"{path}, key 'space'", hint=again)
    return content


def read_records(folder: Location, parameters: Sequence[str]) -> list[dict[str, Any]]:
    """A record a trial, with every field, whatever the file lacks."""
    records = [_record(path, parameters) for path in (folder / "trials").list(".json")]
    _supersede(records)
    return records


def _record(path: Location, parameters: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds no record")
    except (OSError, ValueError) as error:
        content = {"status": "unreadable", "error": f"{path.name} can't be read: {error}"}
    params = content.get("params")
    record = complete({**content, "trial": content.get("trial") or path.stem}, parameters)
    lacking = [name for name in ("seed", "evaluate") if record[name] is None]
    if not isinstance(params, dict) or any(key not in params for key in parameters):
        lacking.insert(0, "params")
    if record["status"] == "done" and lacking:
        record |= {"status": "incomplete", "error": f"{path.name} lacks {', '.join(lacking)}"}
    return record


def complete(content: Mapping[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """A record with all its fields and of their types; what is missing or of another type is None."""
    params = content["params"] if isinstance(content.get("params"), dict) else {}
    seed = content.get("seed")
    record: dict[str, Any] = {"trial": str(content["trial"])}
    record |= {name: str(content[name]) if content.get(name) is not None else None for name in TEXTS}
    record["seed"] = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    record |= {key: params[key] if isinstance(params.get(key), (int, float, str)) else None for key in parameters}
    for name in NUMBERS:
        value = content.get(name)
        record[name] = float(value) if isinstance(value, (int, float)) else None
    record["label"] = record["label"] or record["trial"]
    if record["status"] not in STATES:
        stated = f"its status is {record['status']!r}" if record["status"] else "it has no status"
        record |= {"status": "incomplete", "error": record["error"] or stated}
    record["params"] = dict(params)
    return record


def _supersede(records: list[dict[str, Any]]) -> None:
    """Of two records of one setting and seed (the code changed in between), only the later one counts."""
    latest: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda r: r["ended"] or r["started"] or ""):
        if record["seed"] is None or not record["params"]:
            continue
        key = json.dumps([record["params"], record["seed"]], sort_keys=True)
        before = latest.get(key)
        if before is not None:
            before |= {"status": "superseded", "error": f"trial {record['trial']} has the same setting and seed, later"}
        latest[key] = record


def read_rows(root: Location, address: str) -> pa.Table:
    """An evaluation's per-user rows.

    Raises:
        Unusable: they are not there, not finished, broken or none.
    """
    folder = root / address
    if not (folder / MANIFEST).is_file():
        raise Unusable(f"the evaluation is not finished, or gone: {address}")
    try:
        rows = pq.read_table(
            f"{folder}/rows.parquet", filesystem=folder.files, use_threads=False, page_checksum_verification=True
        )
    except (OSError, pa.ArrowException) as error:
        raise Unusable(f"{address}/rows.parquet can't be read: {_first_line(error)}") from error
    if rows.num_rows == 0:
        raise Unusable(f"{address}/rows.parquet has no rows")
    return rows


def reason(error: str | None) -> str:
    """One line of a record's error: the last of a traceback, the first of anything else."""
    lines = (error or "").strip().splitlines() or ["no error was recorded"]
    return lines[-1 if lines[0].startswith("Traceback") else 0]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
