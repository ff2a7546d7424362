"""How preparing data grows with the log: k-core, split, candidates, examples of made-up logs of 1, 5, 25 million rows.

Each size runs in a process of its own, so that peak memory is that size's. Run it from the repository's root:

    python benchmarks/data.py                       # 1, 5 and 25 million
    python benchmarks/data.py --millions 1 5        # some of them
    python benchmarks/data.py --write               # examples also go to Parquet files, as the prepare stage does
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config.data import CutConfig
from raypref.data.examples import ExampleBuilder
from raypref.data.schema import INTERACTIONS, ITEMS, REJECTED, USERS, Log
from raypref.data.splitting import SPLITS

MEAN_LENGTH = 154  # MovieLens 25M: 162,541 users, 59,047 rated items, 25,000,095 ratings
ROWS_PER_ITEM = 423
RATING_SHARES = (0.06, 0.10, 0.24, 0.35, 0.25)  # of 1 to 5: about 60 % are liked


def make_log(rows: int, seed: int = 0) -> Log:
    """A log with the shape of MovieLens 25M: lognormal lengths of sequences, Zipf-like fame of items, no repeats."""
    rng = np.random.default_rng(seed)
    users, items = max(rows // MEAN_LENGTH, 10), max(rows // ROWS_PER_ITEM, 2000)
    length = np.maximum(rng.lognormal(0, 1, users), 0.13)
    length = np.clip((length * (1.5 * rows / length.sum())).astype(np.int64), 20, items // 3)
    user = np.repeat(np.arange(users, dtype=np.int32), length)
    fame = np.cumsum(1 / np.arange(10, items + 10) ** 0.9)
    item = np.searchsorted(fame, rng.random(len(user)) * fame[-1]).astype(np.int32)
    _, kept = np.unique(user.astype(np.int64) * items + item, return_index=True)
    kept = np.sort(rng.permutation(kept)[:rows])
    user, item = user[kept], item[kept]
    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    position = np.arange(len(user), dtype=np.int32) - np.repeat(starts, np.diff(np.r_[starts, len(user)])).astype(
        np.int32
    )
    rating = rng.choice(np.arange(1, 6, dtype=np.float32), len(user), p=RATING_SHARES)
    columns = {
        "user": user,
        "item": item,
        "rating": rating,
        "count": pa.nulls(len(user), pa.float32()),
        "timestamp": 1_000_000_000 + rng.integers(0, 400_000_000, users)[user] + position.astype(np.int64) * 600,
        "position": position,
    }
    ids = np.arange(items, dtype=np.int32)
    names = pa.array(np.char.mod("item %d", ids))
    return Log(
        name="benchmark",
        domain="movie",
        interactions=pa.table(columns, schema=INTERACTIONS),
        items=pa.table(
            {"item": ids, "item_id": names, "title": names, "metadata": pa.nulls(items, pa.string())}, schema=ITEMS
        ),
        users=pa.table(
            {"user": np.arange(users, dtype=np.int32), "user_id": np.char.mod("%d", np.arange(users))}, schema=USERS
        ),
        rejected=REJECTED.empty_table(),
    )


def measure(millions: float, k_core: int, write: bool) -> dict[str, float]:
    """Times in seconds and peak memory in GiB of one size, in this process."""
    log = make_log(int(millions * 1e6))
    rows = log.interactions.num_rows
    made_gib = _peak_gib()
    start, start_cpu = time.perf_counter(), time.process_time()
    builder = ExampleBuilder(log, CutConfig(k_core=k_core))
    cut = time.perf_counter() - start
    examples = 0
    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            for i, shard in enumerate(builder.shards(split)):
                examples += shard.num_rows
                if write:
                    pq.write_table(shard, Path(folder) / f"{split}-{i}.parquet", compression="zstd")
    total = time.perf_counter() - start
    return {
        "interactions": rows,
        "examples": examples,
        "cut_s": cut,
        "examples_s": total - cut,
        "total_s": total,
        "cpu_s": time.process_time() - start_cpu,
        "rows_per_s": rows / total,
        "examples_per_s": examples / (total - cut),
        "peak_gib": _peak_gib(),
        "peak_gib_before": made_gib,
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 5, 25], help="sizes of the logs")
    parser.add_argument("--k-core", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the examples to Parquet files too")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(measure(args.millions[0], args.k_core, args.write)))
        return
    results = []
    print("interactions   examples    cut s  examples s  total s    cpu s   rows/s  examples/s  peak GiB (before)")
    for millions in args.millions:
        command = [sys.executable, __file__, "--inner", "--millions", str(millions), "--k-core", str(args.k_core)]
        answer = subprocess.run([*command, *(["--write"] if args.write else [])], check=True, stdout=subprocess.PIPE)
        r = json.loads(answer.stdout)
        results.append(r)
        times = f"{r['cut_s']:8.1f} {r['examples_s']:11.1f} {r['total_s']:8.1f} {r['cpu_s']:8.1f}"
        rates = f"{r['rows_per_s']:8,.0f} {r['examples_per_s']:11,.0f}"
        memory = f"{r['peak_gib']:9.2f} ({r['peak_gib_before']:.2f})"
        print(f"{r['interactions']:12,} {r['examples']:10,} {times} {rates} {memory}", flush=True)
    if len(results) > 1:
        n, wall, cpu = (np.log([r[key] for r in results]) for key in ("interactions", "total_s", "cpu_s"))
        exponents = (np.polyfit(n, times, 1)[0] for times in (wall, cpu))
        print("exponent of growth: {:.2f} by the clock, {:.2f} in CPU time".format(*exponents))


if __name__ == "__main__":
    main()
