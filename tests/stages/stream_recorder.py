"""A script, so that Ray's workers get its functions by value: what each worker reads at each step, as hashes.

python stream_recorder.py FOLDER     # FOLDER holds a training table's shards; writes FOLDER/seen.json
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

from raypref.stages.on_ray import stream_of
from raypref.stages.remote import stream
from raypref.sweeps.runtime import connect
from raypref.training.batches import global_batches, worker_share

SIZE, SEED, STEPS, ROWS = 16, 3, 12, 100


def fingerprint(table: pa.Table) -> list[str]:
    """A hash of each row, all its columns."""
    return [hashlib.sha256(json.dumps(row).encode()).hexdigest() for row in table.to_pylist()]


def record(arguments: dict[str, Any]) -> None:
    """Read the stream as the training loop does, from `first` on; leave one file a worker."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    batches = global_batches(stream(), SIZE, SEED, arguments["first"], ROWS // SIZE)
    seen = []
    for _ in range(arguments["first"], STEPS):
        epoch, table = next(batches)
        seen.append([epoch, fingerprint(worker_share(table, rank, world))])
    Path(arguments["out"], f"{rank}.json").write_text(json.dumps(seen))


def run(folder: Path, workers: int, first: int) -> list[Any]:
    """What a group of `workers` sees: by step, (epoch, each worker's rows)."""
    out = folder / f"seen-{workers}-{first}"
    out.mkdir()
    ray.train.torch.TorchTrainer(
        record,
        train_loop_config={"out": str(out), "first": first},
        datasets={"train": stream_of([folder], ["history"])},
        dataset_config=ray.train.DataConfig(datasets_to_split=[]),
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
        run_config=ray.train.RunConfig(name=out.name, storage_path=str(folder / "train")),
    ).fit()
    by_rank = [json.loads((out / f"{rank}.json").read_text()) for rank in range(workers)]
    return [[step[0][0], [rows for _, rows in step]] for step in zip(*by_rank)]


if __name__ == "__main__":
    where = Path(sys.argv[1])
    connect()
    groups = {f"{n} from {first}": run(where, n, first) for n, first in ((1, 0), (2, 0), (4, 0), (2, 8))}
    (where / "seen.json").write_text(json.dumps(groups))
