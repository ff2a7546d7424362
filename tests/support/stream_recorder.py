"""A script, so that Ray's workers get its functions by value: what each worker reads at each step, as hashes.

python -m tests.support.stream_recorder FOLDER     # FOLDER holds a training table's shards; writes FOLDER/seen.json
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "token"

import pyarrow as pa
import ray
import ray.train.torch

from raypref.cluster.connect import connect
from raypref.cluster.stream import stream
from raypref.cluster.train_group import stream_of
from raypref.training.batches import global_batches, worker_share

SIZE, SEED, STEPS, ROWS = 16, 3, 12, 100
FIRSTS = (0, 8)  # steps to start from: the beginning, and as a resumed run


def fingerprint(table: pa.Table) -> list[str]:
    """A hash of each row, all its columns."""
    return [hashlib.sha256(json.dumps(row).encode()).hexdigest() for row in table.to_pylist()]


def record(out: dict[str, str]) -> None:
    """Read the stream as the training loop does, from each of `FIRSTS` on; leave one file a worker."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    for first in FIRSTS:
        batches = global_batches(stream, SIZE, SEED, first, ROWS // SIZE)
        seen = []
        for _ in range(first, STEPS):
            epoch, table = next(batches)
            seen.append([epoch, fingerprint(worker_share(table, rank, world))])
        Path(out["folder"], f"{first}-{rank}.json").write_text(json.dumps(seen))


def run(folder: Path, workers: int) -> dict[int, list[Any]]:
    """What a group of `workers` sees, by first step: of each step (epoch, each worker's rows)."""
    out = folder / f"seen-{workers}"
    out.mkdir()
    cpus = ray.cluster_resources()["CPU"] / workers  # all there are: reading must do without
    ray.train.torch.TorchTrainer(
        record,
        train_loop_config={"folder": str(out)},
        datasets={"train": stream_of([folder], ["history"])},
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus}),
        run_config=ray.train.RunConfig(name=out.name, storage_path=str(folder / "train")),
    ).fit()
    found = {}
    for first in FIRSTS:
        by_rank = [json.loads((out / f"{first}-{rank}.json").read_text()) for rank in range(workers)]
        found[first] = [[step[0][0], [rows for _, rows in step]] for step in zip(*by_rank)]
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    connect()
    (where / "seen.json").write_text(json.dumps({workers: run(where, workers) for workers in (1, 4)}))
