"""The rows behind a page's section: one small file from which its tables, figures and sentences are made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype

from raypref.errors import UserError
from raypref.evaluation.metrics import mean
from raypref.results.collect import SCORES, SFT, Collection, metrics_frame, trials_frame
from raypref.results.labels import rows_of
from raypref.results.records import NUMBERS
from raypref.results.training_curves import training_table

ACCOUNT = b"raypref.section"
PLACES = ("path", "items", "root", "storage", "command")
"""Keys whose text names folders of the machine it ran on."""
ADDRESSES = ("sft", "beside", "stages", "trials", "commands")
"""What a sweep's account says of its root, which a page does not have."""
TRIAL = ("trial", "label", "seed", *NUMBERS)


def save_rows(collection: Collection, stem: Path, told: Mapping[str, Any]) -> list[Path]:
    """Write `STEM.parquet` and, where training was logged, `STEM-training.parquet`.

    The first has a row a trial and example: what is swept, seed, split, example, user and each metric's value
    (float32); of the SFT model, what is swept is null. Its metadata hold the account of the sweep, without the folders
    of the machine, and what is `told` beside it.

    Args:
        told: JSON that belongs to the section.
    """
    parameters = collection.parameters
    chosen = pd.concat([collection.trials[collection.trials["trial"] == SFT], collection.done], ignore_index=True)
    kept = {str(trial): SFT if trial == SFT else str(number) for number, trial in enumerate(chosen["trial"])}
    metrics = [name for name in collection.users.column_names if name in set(collection.metrics["metric"])]
    frame = collection.users.select(["trial", "split", "example", "user", *metrics]).to_pandas()
    frame = chosen[["trial", *parameters, "seed"]].merge(frame.astype({"trial": "object"}), on="trial")
    frame = frame.astype({"seed": "Int16"}).drop(columns="trial")
    frame = frame.sort_values([*parameters, "seed", "split", "example"], kind="stable", na_position="first")
    named = [name for name in (*parameters, "split") if not is_numeric_dtype(frame[name])]
    table = pa.Table.from_pandas(frame.astype(dict.fromkeys(named, "category")), preserve_index=False)
    trials = chosen[[*TRIAL, *parameters]].assign(trial=chosen["trial"].map(kept)).to_json(orient="records")
    sweep = _anywhere({key: value for key, value in collection.sweep.items() if key not in ADDRESSES})
    account = {"sweep": sweep, "trials": json.loads(trials), "told": dict(told)}
    metadata = {ACCOUNT: json.dumps(account, default=str, ensure_ascii=False)}
    stem.parent.mkdir(exist_ok=True)
    written = [stem.with_suffix(".parquet")]
    pq.write_table(table.replace_schema_metadata(metadata), written[0], compression="zstd")
    training = training_table(collection)
    training = training[training["trial"].isin(kept)].assign(trial=training["trial"].map(kept))
    _training(stem).unlink(missing_ok=True)
    if len(training):
        written.append(_training(stem))
        training.astype({"step": "float32", "value": "float32"}).to_parquet(
            written[-1], index=False, compression="zstd"
        )
    return written


def load_rows(stem: Path) -> tuple[Collection, dict[str, Any]]:
    """Read what `save_rows` left: the sweep, as far as its section shows it, and what was told beside it.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    path = stem.with_suffix(".parquet")
    try:
        table = pq.read_table(path)
        account = json.loads((table.schema.metadata or {})[ACCOUNT])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        hint = "fetch it again from where the page comes from, or write the section anew by --write"
        raise UserError(f"the section's rows can't be read: {error}", where=str(path), hint=hint) from error
    sweep, parameters = account["sweep"], list(account["sweep"]["space"])
    frame = table.to_pandas()
    frame["target_item"] = 0  # an example and its user say which one it is
    trials = trials_frame([{**row, "status": "done"} for row in account["trials"]], parameters)
    by_values = {_values(row, parameters): row["trial"] for row in rows_of(trials)}
    columns = [frame[name].astype(object).where(frame[name].notna(), None) for name in (*parameters, "seed")]
    frame["trial"] = [by_values[_plain(values)] for values in zip(*columns)]
    metrics = list(frame.columns[frame.columns.get_loc("user") + 1 : frame.columns.get_loc("target_item")])
    scores = []
    for (trial, split), own in frame.groupby(["trial", "split"], observed=True, sort=False):
        counts = {"users": own["user"].nunique(), "examples": len(own)}
        values = {name: mean(own[name].to_numpy(dtype=np.float64)) for name in metrics}
        scores += [(trial, split, name, value, *counts.values()) for name, value in values.items() if value == value]
    found = metrics_frame(trials, pd.DataFrame(scores, columns=SCORES), parameters)
    users = pa.Table.from_pandas(
        frame[["trial", "split", "example", "user", "target_item", *metrics]].astype({"split": "object"}),
        preserve_index=False,
    )
    training = pd.read_parquet(_training(stem)) if _training(stem).exists() else None
    return Collection(sweep, trials, found, users, training=training), account["told"]


def _training(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}-training.parquet")


def _values(row: Mapping[str, Any], parameters: list[str]) -> tuple[Any, ...]:
    return _plain([row[name] for name in (*parameters, "seed")])


def _plain(values: Any) -> tuple[Any, ...]:
    """Missing as None, numbers as float: what a file's types make of a value does not matter."""
    return tuple(None if v is None or v is pd.NA or v != v else v if isinstance(v, str) else float(v) for v in values)


def _anywhere(content: Any) -> Any:
    """Without what names folders."""
    if isinstance(content, Mapping):
        return {k: _anywhere(v) for k, v in content.items() if not (k in PLACES and isinstance(v, str))}
    return [_anywhere(each) for each in content] if isinstance(content, (list, tuple)) else content
