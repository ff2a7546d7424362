"""Scores of an outside system, for `raypref rescore`: which pairs need one, and the rows that follow from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config import RunConfig
from raypref.data.columns import ExampleTable, splits_in
from raypref.data.splitting import LEAST
from raypref.errors import UserError
from raypref.evaluation.metrics import means
from raypref.evaluation.rows import rows_of
from raypref.results.labels import metric_label
from raypref.stages.evaluate import EVALUATE
from raypref.stages.prepare import train_counts
from raypref.stages.stage import Stage
from raypref.storage.store import MANIFEST, Address, Store, digest, write_json
from raypref.sweeps.methods import METHOD
from raypref.sweeps.trial_records import now, read_records

COLUMNS = ("user", "item", "score")


def write_rows(
    file: Path, system: str, seed: int, config: RunConfig, store: Store, prepared: Stage
) -> tuple[Address, str]:
    """Score the evaluated users as an outside system does; the address of its rows, and its first metric as text."""
    rows = outside_rows(store.path(prepared.address), config, read_scores(file))
    content = {"data": prepared.address.key, "splits": config.evaluation.splits, "version": EVALUATE.version}
    content |= {"system": system, "seed": seed, "scores": hashlib.sha256(file.read_bytes()).hexdigest()}
    address = Address("evaluate", system, digest(content))
    if not store.done(address):
        with store.writing(address, content, {"prepare": str(prepared.address)}) as (folder, facts):
            pq.write_table(rows, folder / "rows.parquet", compression="zstd")
            facts |= {split: means(part) | {"examples": part.num_rows} for split, part in _by_split(rows).items()}
    metric, value = next(iter(means(_by_split(rows).get("test", rows)).items()))
    return address, f"{metric_label(metric)} {value:.4f}"


def pairs(prepared: Path, config: RunConfig) -> pd.DataFrame:
    """Ids of every user and candidate of the evaluated splits, each pair once."""
    users, items = _ids(prepared)
    found = []
    for split in _splits(prepared, config):
        for shard in ExampleTable([prepared], split, ("user", "candidates")):
            candidates = np.array(shard["candidates"].to_pylist())
            owner = np.repeat(shard["user"].to_numpy(), candidates.shape[1])
            found.append(pd.DataFrame({"user": users[owner], "item": items[candidates.ravel()]}))
    return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)


def read_scores(path: Path) -> pd.Series:
    """Scores by (user, item), as text.

    Raises:
        UserError: no such file, a column missing, two scores of one pair, a score that is no number.
    """
    try:
        frame = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"the scores can't be read: {error}", where=str(path), hint="give a Parquet file") from error
    lacking = [name for name in COLUMNS if name not in frame]
    if lacking:
        hint = "name the columns user, item and score"
        raise UserError(f"columns are missing: {', '.join(lacking)}", where=str(path), hint=hint)
    if not pd.api.types.is_numeric_dtype(frame["score"]) or frame["score"].isna().any():
        raise UserError("some scores are no numbers", where=f"{path}, column score", hint="leave no score empty")
    texts = frame.assign(user=frame["user"].astype(str), item=frame["item"].astype(str))
    series: pd.Series = texts.set_index(["user", "item"])["score"].astype(np.float64)
    twice = series.index[series.index.duplicated()]
    if len(twice):
        raise UserError(f"{len(twice)} pairs have two scores, e.g. {twice[0]}", where=str(path), hint="keep one each")
    return series


def outside_rows(prepared: Path, config: RunConfig, scores: pd.Series) -> pa.Table:
    """Rows of the evaluated splits by the given scores.

    Raises:
        UserError: a candidate without a score.
    """
    users, items = _ids(prepared)
    counts, parts = train_counts(prepared), []
    for split in _splits(prepared, config):
        sign = -1 if split in LEAST else 1
        for shard in ExampleTable([prepared], split):
            candidates = np.array(shard["candidates"].to_pylist())
            owner = np.repeat(users[shard["user"].to_numpy()], candidates.shape[1])
            wanted = pd.MultiIndex.from_arrays([owner, items[candidates.ravel()]])
            found = scores.reindex(wanted).to_numpy()
            missing = np.flatnonzero(np.isnan(found))
            if len(missing):
                raise UserError(
                    f"{len(missing)} of {len(found)} candidates of '{split}' have no score, e.g. {wanted[missing[0]]}",
                    where="--scores",
                    hint="score all that `--pairs FILE` lists",
                )
            parts.append(rows_of(shard, split, sign * found.reshape(candidates.shape), counts))
    return pa.concat_tables(parts)


def join_table(folder: Path, system: str, seed: int, address: Address, prepared: Address) -> None:
    """Leave a record in a benchmark's sweep folder as a trial of method `system`; a later one of its seed replaces it.

    Raises:
        UserError: no benchmark's sweep lies there, it is of other examples or of another root, or has such a method.
    """
    try:
        space = json.loads((folder / "sweep.json").read_text())["space"]
    except (OSError, ValueError, KeyError) as error:
        hint = "give a folder ROOT/sweeps/benchmark-... with a sweep.json"
        raise UserError("no sweep lies there", where=str(folder), hint=hint) from error
    if METHOD not in space:
        raise UserError("that sweep does not compare methods", where=str(folder), hint="give a benchmark's folder")
    root = folder.absolute().parent.parent
    if not (root / str(address) / MANIFEST).is_file():
        hint = f"give --root {root}"
        raise UserError("that sweep belongs to another root than the scores' rows", where=str(folder), hint=hint)
    for record in read_records(folder):
        if record.get("params") == {METHOD: system} and not record.get("outside"):
            raise UserError(f"the table has a method {system} already", where="--called", hint="give another name")
        manifest = root / str(record.get("evaluate")) / MANIFEST
        if manifest.is_file() and json.loads(manifest.read_text())["inputs"]["prepare"] != str(prepared):
            raise UserError(
                f"that sweep is of other examples: {record['evaluate']} is not of {prepared}",
                where=str(folder),
                hint="give the data options of the benchmark's own command",
            )
    record = {
        "trial": address.key,
        "label": f"method={system} seed={seed}",
        "params": {METHOD: system},
        "seed": seed,
        "status": "done",
        "evaluate": str(address),
        "outside": True,
        "ended": now(),
    }
    write_json(folder / "trials" / f"{address.key}.json", record)


def _splits(prepared: Path, config: RunConfig) -> list[str]:
    found = splits_in(prepared, config.evaluation.splits)
    if not found:
        wanted = ", ".join(config.evaluation.splits)
        raise UserError(f"no example of {wanted}", where="--evaluation.splits", hint="take a set that is not empty")
    return found


def _ids(prepared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Raw ids by user code and by item code."""
    users, items = (pq.read_table(prepared / f"{name}.parquet") for name in ("users", "items"))
    by_code = np.empty(max(users["user"].to_pylist()) + 1, dtype=object)
    by_code[users["user"].to_numpy()] = users["user_id"].to_pylist()
    return by_code, np.array(items["item_id"].to_pylist(), dtype=object)


def _by_split(rows: pa.Table) -> dict[str, pa.Table]:
    splits = dict.fromkeys(rows["split"].to_pylist())
    return {split: rows.filter(pa.compute.equal(rows["split"], split)) for split in splits}
