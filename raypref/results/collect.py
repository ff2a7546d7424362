"""One sweep's trials as tables: what was tried, what it scored, and every user's row behind the scores."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.errors import UserError
from raypref.evaluation.beyond_accuracy import of_system
from raypref.evaluation.metrics import mean, per_user
from raypref.evaluation.splits import choosing_split, reported_split
from raypref.results.records import NUMBERS, TEXTS, Unusable, complete, read_records, read_rows, read_sweep
from raypref.storage.location import Location
from raypref.storage.store import write_atomic

SFT = "sft"
# Lists, nine tenths of an evaluation's size: they stay with the evaluation.
HEAVY = (
    "candidates",
    "logps",
    "logpop",
    "beams",
    "top",
    "top_information",
    "top_genres",
    "history_genres",
    "said_beams",
    "order_places",
    "order_logps",
)
RESULTS, USERS, TRAINING = "results.parquet", "users.parquet", "training.parquet"
SCORES = ["trial", "split", "metric", "value", "users", "examples"]
_SWEEP_KEY = b"raypref.sweep"


@dataclass(frozen=True, eq=False)  # one is the same as itself alone: what is computed from it can be cached
class Collection:
    """A sweep, as far as it has come."""

    sweep: dict[str, Any]
    """sweep.json: question, space, default, config, command, provenance."""
    trials: pd.DataFrame
    """A row a trial, of any status; a column for each swept key. The SFT model is the trial `sft`."""
    metrics: pd.DataFrame
    """A row a usable trial, split and metric: trial, label, swept keys, seed, split, metric, value, users, examples."""
    users: pa.Table
    """A row a usable trial and evaluated example: the evaluation's row without its lists, and its value of each
    metric.
    """
    root: Location | None = None
    """The folder that the trials' addresses are relative to, if it is known."""
    training: pd.DataFrame | None = None
    """The training curves as `write` left them; None: they are read from the trials' logs."""
    beside: Mapping[str, pa.Table] = field(default_factory=dict)
    """By name, the rows of the recommenders beside the sweep, like `users`; none once it was written and loaded."""

    @property
    def parameters(self) -> list[str]:
        """The swept keys."""
        return list(self.sweep["space"])

    @property
    def done(self) -> pd.DataFrame:
        """The trials that the numbers come from, without SFT."""
        return self.trials[(self.trials["status"] == "done") & (self.trials["trial"] != SFT)]

    @property
    def reported(self) -> str:
        """The split that tables and figures show."""
        return reported_split(set(self.metrics["split"]))

    @property
    def choosing(self) -> str:
        """The split that says which setting is best."""
        return choosing_split(set(self.metrics["split"]))

    def has(self, metric: str, split: str) -> bool:
        return bool(((self.metrics["metric"] == metric) & (self.metrics["split"] == split)).any())


def collect(folder: Path | str | Location, root: Path | str | Location | None = None) -> Collection:
    """Read a sweep's folder and the evaluations that it names, however far they are.

    Args:
        folder: `<root>/sweeps/<name>-<hash>`, a path or a URI.
        root: where addresses start; by default two folders up.

    Raises:
        UserError: no sweep lies there.
    """
    folder = Location.of(folder)
    root = folder.parent.parent if root is None else Location.of(root)
    sweep = read_sweep(folder)
    parameters = list(sweep["space"])
    records = read_records(folder, parameters)
    if sweep.get("sft"):
        baseline = {"trial": SFT, "label": "SFT", "status": "done", "evaluate": sweep["sft"]}
        records.insert(0, complete(baseline, parameters))
    tables, scores = [], []
    for record in records:
        if record["status"] != "done":
            continue
        try:
            table, values = _scored(read_rows(root, record["evaluate"]))
        except Unusable as error:
            record |= {"status": "incomplete", "error": str(error)}
            continue
        tables.append((record["trial"], table))
        scores += [{"trial": record["trial"], **value} for value in values]
    trials = trials_frame(records, parameters)
    beside = _beside(root, sweep.get("beside", {}))
    sweep |= {"levels": [{"name": name, **score} for name, (_, values) in beside.items() for score in values]}
    return Collection(
        sweep, trials, metrics_frame(trials, pd.DataFrame(scores, columns=SCORES), parameters), _users(tables), root,
        beside={name: table for name, (table, _) in beside.items()},
    )  # fmt: skip


def _beside(root: Location, addresses: dict[str, str]) -> dict[str, tuple[pa.Table, list[dict[str, Any]]]]:
    """What `_scored` finds of the recommenders beside a sweep, by name, as far as they are evaluated."""
    found = {}
    for name, address in addresses.items():
        with contextlib.suppress(Unusable):
            found[name] = _scored(read_rows(root, address))
    return found


def _scored(rows: pa.Table) -> tuple[pa.Table, list[dict[str, Any]]]:
    """An evaluation's rows with a column for each metric, and the metrics' means over each split."""
    try:
        values = per_user(rows)
        splits, users = rows["split"].to_numpy(), rows["user"].to_numpy()
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise Unusable(f"its rows are not those of an evaluation: {error}") from error
    scores = []
    for split in sorted(set(splits.tolist())):
        chosen = splits == split
        count = {"users": len(np.unique(users[chosen])), "examples": int(chosen.sum())}
        asked = {metric: mean(v[chosen]) for metric, v in values.items()}
        asked |= of_system(rows.filter(pa.array(chosen)))
        scores += [{"split": split, "metric": m, "value": v, **count} for m, v in asked.items() if np.isfinite(v)]
    table = rows.drop_columns([name for name in HEAVY if name in rows.column_names])
    for metric, value in values.items():
        table = table.append_column(metric, pa.array(value.astype(np.float32), from_pandas=True))  # NaN: null
    return table, scores


def trials_frame(records: list[dict[str, Any]], parameters: list[str]) -> pd.DataFrame:
    """In the order of the settings, then of the seeds; SFT first."""
    columns = [
        "trial",
        "label",
        "status",
        *parameters,
        "seed",
        "align",
        "evaluate",
        "error",
        *NUMBERS,
        "started",
        "ended",
    ]
    frame = pd.DataFrame(records, columns=columns)
    for name in NUMBERS:
        frame[name] = frame[name].astype("float64")
    frame["seed"] = frame["seed"].astype("Int64")
    for name in ("trial", *TEXTS):
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    for key in parameters:
        frame[key] = _parameter(frame[key])
    frame["_first"] = frame["trial"] != SFT
    frame = frame.sort_values(["_first", *parameters, "seed"], kind="stable")
    return frame.drop(columns="_first").reset_index(drop=True)


def metrics_frame(trials: pd.DataFrame, scores: pd.DataFrame, parameters: list[str]) -> pd.DataFrame:
    """The scores with what their trials varied."""
    types = dict.fromkeys(("trial", "split", "metric"), "object") | {"users": "int64", "examples": "int64"}
    described = trials[["trial", "label", *parameters, "seed"]]
    return described.merge(scores.astype({**types, "value": "float64"}), on="trial", how="inner")


def _parameter(column: pd.Series) -> pd.Series:
    """Numbers where all are numbers, else their text, so that the column has one type."""
    given = column.dropna()
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given):
        return column.astype("float64")
    text = column.map(lambda value: str(value).lower() if isinstance(value, bool) else str(value), na_action="ignore")
    return text.astype(object).where(column.notna(), None)


def _users(tables: list[tuple[str, pa.Table]]) -> pa.Table:
    """All rows in one table, with the trial's id; a metric that a trial lacks is null there."""
    if not tables:
        return pa.table({"trial": pa.array([], pa.dictionary(pa.int32(), pa.string()))})
    names = pa.array([trial for trial, _ in tables], pa.string())
    index = pa.array(np.repeat(np.arange(len(tables), dtype=np.int32), [table.num_rows for _, table in tables]))
    whole = pa.concat_tables([table for _, table in tables], promote_options="permissive")
    return whole.add_column(0, "trial", pa.DictionaryArray.from_arrays(index, names))


def write(collection: Collection, folder: Path) -> list[Path]:
    """`results.parquet` (a row a trial and metric; one without metric where a trial has none) and `users.parquet`.

    The sweep's account is in the first one's metadata, so the two files are all that tables and figures need.
    """
    keep = ["trial", "status", "align", "evaluate", "error", *NUMBERS, "started", "ended"]
    scores = collection.metrics[SCORES]
    described = collection.trials[["trial", "label", *collection.parameters, "seed", *keep[1:]]]
    table = pa.Table.from_pandas(described.merge(scores, on="trial", how="left"), preserve_index=False)
    account = json.dumps(collection.sweep, default=str).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SWEEP_KEY: account})
    paths = [Path(folder) / RESULTS, Path(folder) / USERS]
    write_atomic(paths[0], lambda path: pq.write_table(table, path, compression="zstd"))
    write_atomic(paths[1], lambda path: pq.write_table(collection.users, path, compression="zstd"))
    return paths


def load(folder: Path) -> Collection:
    """What `write` left, and the training curves where they lie with it, without the trials' own folders.

    Raises:
        UserError: nothing was collected there.
    """
    try:
        table, users = pq.read_table(Path(folder) / RESULTS), pq.read_table(Path(folder) / USERS)
        sweep = json.loads((table.schema.metadata or {})[_SWEEP_KEY])
        curves = Path(folder) / TRAINING
        training = pd.read_parquet(curves) if curves.exists() else None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"no collected results can be read: {error}", where=str(folder), hint="collect the sweep's folder first"
        ) from error
    parameters = list(sweep["space"])
    frame = table.to_pandas()
    trials = trials_frame(frame.drop_duplicates("trial").to_dict("records"), parameters)
    scores = frame.loc[frame["metric"].notna(), SCORES]
    return Collection(sweep, trials, metrics_frame(trials, scores, parameters), users, training=training)
