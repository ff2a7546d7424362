"""Sweeps on disk as the sweep's job leaves them, with planted hit rates."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.results.collect import Collection

LAMBDA = "align.objective.lambda"
CANDIDATES = 20
Rates = Callable[[Mapping[str, Any], int], float]


def rows(rng: np.random.Generator, hit: float, users: int, valid: float = 0.95, generate: bool = True) -> pa.Table:
    """An evaluation's rows, both splits: the target is ranked first, and generated, with probability `hit`."""
    parts = []
    for split in ("test", "validation"):
        first = rng.random(users) < hit
        rank = np.where(first, 1, rng.integers(2, CANDIDATES + 1, users)).astype(np.int32)
        target = rng.integers(0, CANDIDATES, users).astype(np.int32)
        other = (target + 1) % CANDIDATES
        answered = np.where(rng.random(users) < valid, np.where(first, target, other), -1).astype(np.int32)
        said = pa.array([f"title {a}" for a in answered]) if generate else pa.nulls(users, pa.string())
        named = pa.array(answered) if generate else pa.nulls(users, pa.int32())
        parts.append(
            pa.table(
                {
                    "split": [split] * users,
                    "example": np.arange(users, dtype=np.int64),
                    "user": np.arange(users, dtype=np.int32),
                    "history_length": np.full(users, 9, np.int32),
                    "target_item": np.arange(users, dtype=np.int32),
                    "target": target,
                    "candidates": lists(np.tile(np.arange(CANDIDATES, dtype=np.int32), (users, 1))),
                    "logps": lists(rng.normal(-20, 3, (users, CANDIDATES)).astype(np.float32)),
                    "rank": rank,
                    "logpop": lists(np.ones((users, CANDIDATES), np.float32)),
                    "history_logpop": np.ones(users, np.float32),
                    "answer": said,
                    "answered": named,
                    "answered_contains": named,
                    "beams": pa.nulls(users, pa.list_(pa.int32())),
                }
            )
        )
    return pa.concat_tables(parts)


def lists(values: np.ndarray) -> pa.Array:
    """A list a row of `values`."""
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values.ravel())


def evaluation(root: Path, address: str, table: pa.Table) -> None:
    folder = root / address
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "rows.parquet", compression="zstd")
    (folder / "_SUCCESS").write_text(json.dumps({"facts": {}}))


def trained(root: Path, address: str, rng: np.random.Generator, steps: int = 60) -> None:
    """An alignment's logs."""
    folder = root / address
    folder.mkdir(parents=True)
    noise = rng.normal(0, 0.02, steps)
    lines = [{"step": s, "lr": 1e-4, "loss": 1.4 - s / 100 + noise[s], "reward_margin": s / 30} for s in range(steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "validation.jsonl").write_text(json.dumps({"step": steps - 1, "loss": 0.9, "hr@1": 0.3}) + "\n")


def sweep(
    root: Path,
    space: Mapping[str, Sequence[Any]],
    default: Mapping[str, Any],
    rate: Rates,
    seeds: int = 3,
    users: int = 100,
    seed: int = 0,
    logs: bool = False,
    generate: bool = True,
) -> Path:
    """A finished sweep over a grid; its folder."""
    rng = np.random.default_rng(seed)
    folder = root / "sweeps" / "planted-0123456789ab"
    (folder / "trials").mkdir(parents=True)
    evaluation(root, "evaluate/tiny-sft-000000000000", rows(rng, 0.25, users, generate=generate))
    account = {
        "name": "planted",
        "question": "How does HR@1 move with the <planted> setting?",
        "space": {key: list(values) for key, values in space.items()},
        "seeds": list(range(seeds)),
        "default": dict(default),
        "method": "recpo",
        "dataset": "generated",
        "config": {"name": "tiny", "align": {"objective": {"name": "recpo"}}},
        "sft": "evaluate/tiny-sft-000000000000",
        "command": "python jobs/planted.py --seeds 3",
        "provenance": {"python": "3.11", "git": "abc+changes", "versions": {"ray": "2.55.0"}},
    }
    (folder / "sweep.json").write_text(json.dumps(account))
    grid = [dict(zip(space, values)) for values in itertools.product(*space.values())]
    for number, (setting, s) in enumerate((setting, s) for setting in grid for s in range(seeds)):
        trial = f"{number:012x}"
        shown = " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in setting.items())
        evaluation(root, f"evaluate/tiny-{trial}", rows(rng, rate(setting, s), users, generate=generate))
        if logs:
            trained(root, f"align/tiny-{trial}", rng)
        record = {
            "trial": trial,
            "label": f"recpo {shown} seed={s}",
            "params": setting,
            "seed": s,
            "status": "done",
            "align": f"align/tiny-{trial}",
            "evaluate": f"evaluate/tiny-{trial}",
            "error": None,
            "seconds": 30.0 + number,
            "train_seconds": 12.0,
            "evaluate_seconds": 4.0,
            "peak_memory_gb": 1.1,
            "started": f"2026-01-01T00:{number % 60:02d}:00+00:00",
            "ended": f"2026-01-01T01:{number % 60:02d}:00+00:00",
        }
        (folder / "trials" / f"{trial}.json").write_text(json.dumps(record))
    return folder


def scored(hits: Mapping[tuple[float, int], np.ndarray], default: float) -> Collection:
    """A collection of given test hits by (setting, seed), without files."""
    trials, scores, tables = [], [], []
    for number, ((value, seed), hit) in enumerate(hits.items()):
        trial, users = f"{number:012x}", len(hit)
        described = {"trial": trial, "label": f"recpo λ={value:g} seed={seed}", LAMBDA: value, "seed": seed}
        trials.append(
            described | {"status": "done", "error": None, "seconds": 1.0, "peak_memory_gb": 1.0, "align": None}
        )
        for split in ("test", "validation"):
            score = {"split": split, "metric": "exact_hr@1", "value": float(hit.mean()), "users": users}
            scores.append(described | score | {"examples": users})
            ids = np.arange(users)
            tables.append(
                pa.table(
                    {
                        "trial": pa.array([trial] * users, pa.string()),
                        "split": [split] * users,
                        "example": ids,
                        "user": ids,
                        "target_item": ids,
                        "exact_hr@1": hit.astype(np.float32),
                    }
                )
            )
    sweep = {"name": "planted", "question": "?", "space": {LAMBDA: []}, "default": {LAMBDA: default}}
    return Collection(sweep, pd.DataFrame(trials), pd.DataFrame(scores), pa.concat_tables(tables))
