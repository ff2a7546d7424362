"""How the data path grows with the log: made-up logs of 1, 5, 25 million interactions, prepared and tokenized.

Prepare is what the stage does (k-core, split, candidates, examples written to Parquet) but for reading a source.
Tokenization is what that stage does (prompts rendered and tokenized by Ray Data in actors, written to Parquet), on the
first `--tokenize` training examples of each size; beside it the tokenizer alone, given the very same rendered prompts
in as many processes, each in batches as large as the stage's. Each size runs in processes of its own; memory is the
peak of all of them together, Ray's included. Run it from the repository's root:

    python benchmarks/data.py                       # 1, 5 and 25 million
    python benchmarks/data.py --millions 1 5        # some of them
    python benchmarks/data.py --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from raypref.config import RunConfig
from raypref.config.data import CutConfig
from raypref.config.loading import load, override
from raypref.data.columns import ExampleTable
from raypref.data.examples import SHARD_ROWS
from raypref.data.schema import INTERACTIONS, ITEMS, REJECTED, USERS, Log
from raypref.data.sources.lexicon import GENRES, MOODS

MEAN_LENGTH = 154  # MovieLens 25M: 162,541 users, 59,047 rated items, 25,000,095 ratings
ROWS_PER_ITEM = 423
RATING_SHARES = (0.06, 0.10, 0.24, 0.35, 0.25)  # of 1 to 5: about 60 % are liked


MARK = "<!-- written by benchmarks/data.py -->"


def make_titles(size: int) -> list[str]:
    """Titles of some words and a year, as MovieLens has them."""
    adjectives = [word for words in MOODS.values() for word in words]
    nouns = [word for words in GENRES.values() for word in words]
    pairs = len(adjectives) * len(nouns)
    names = (f"{adjectives[i % len(adjectives)]} {nouns[i // len(adjectives) % len(nouns)]}" for i in range(size))
    parts = (f", Part {i // pairs + 1}" if i >= pairs else "" for i in range(size))
    return [f"{name}{part} ({1930 + i * 7919 % 95})" for i, (name, part) in enumerate(zip(names, parts))]


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
    names = pa.array(np.char.mod("%d", ids))
    return Log(
        name="benchmark",
        domain="movie",
        interactions=pa.table(columns, schema=INTERACTIONS),
        items=pa.table(
            {"item": ids, "item_id": names, "title": make_titles(items), "metadata": pa.nulls(items, pa.string())},
            schema=ITEMS,
        ),
        users=pa.table(
            {"user": np.arange(users, dtype=np.int32), "user_id": np.char.mod("%d", np.arange(users))}, schema=USERS
        ),
        rejected=REJECTED.empty_table(),
    )


def prepare(millions: float, k_core: int, folder: Path) -> dict[str, float]:
    """Seconds and counts of preparing one size into `folder`, in this process."""
    from raypref.stages.prepare import write_examples

    log = make_log(int(millions * 1e6))
    start, start_cpu = time.perf_counter(), time.process_time()
    facts = write_examples(log, CutConfig(k_core=k_core), folder)
    return {
        "interactions": log.interactions.num_rows,
        "examples": sum(facts[f"{split}_examples"] for split in ("train", "validation", "test")),
        "prepare_s": time.perf_counter() - start,
        "prepare_cpu_s": time.process_time() - start_cpu,
    }


def config() -> RunConfig:
    return override(load("tiny")[0], {"prompt": {"max_tokens": 1024}}, "benchmarks/data.py")


def tokenize(prepared: Path, shards: int) -> dict[str, float]:
    """Prompt tokens a second of the stage's own code under Ray Data: over all, and once its actors stand."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from raypref.cluster.connect import connect
    from raypref.cluster.on_ray import map_shards
    from raypref.stages.tokenize import ShardTokenizer, make_tokenizer

    connect()
    with tempfile.TemporaryDirectory() as out:
        make_tokenizer(config(), {"prepare": prepared}).save_pretrained(Path(out) / "tokenizer")
        arguments = (config(), {"prepare": prepared}, Path(out), Path(out))
        start = time.perf_counter()
        tokens = map_shards(ShardTokenizer, arguments, prepared, ["train"], gpus=0, first=shards)
        took = time.perf_counter() - start
        written = sorted(path.stat().st_mtime for path in (Path(out) / "train").glob("part-*"))
        # From the first shard written to the last: the rate without the start of processes and their imports.
        each = tokens / shards
        running = each * (shards - 1) / (written[-1] - written[0])
    return {"tokens": tokens, "tokenize_s": took, "tokens_per_s": tokens / took, "running_tokens_per_s": running}


def tokenizer_alone(prepared: Path, shards: int) -> dict[str, float]:
    """Prompt tokens a second of the bare tokenizer on rendered prompts, in a process per core, once they stand."""
    processes = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, _keep, (barrier,)) as pool:
        parts = [(str(prepared), range(i, shards, processes)) for i in range(processes)]
        found = pool.starmap(_alone, parts, chunksize=1)
    return {
        "alone_tokens_per_s": sum(tokens for tokens, _, _ in found)
        / (max(e for *_, e in found) - min(s for _, s, _ in found))
    }


def _keep(barrier: object) -> None:
    global _barrier
    _barrier = barrier


def _alone(folder: str, shards: range) -> tuple[int, float, float]:
    from raypref.stages.prepare import renderer_of, titles_of
    from raypref.stages.tokenize import make_tokenizer

    prepared = Path(folder)
    tokenizer, render = make_tokenizer(config(), {"prepare": prepared}), renderer_of(config(), prepared)
    titles = titles_of(prepared)
    batches = []
    for shard in shards:
        rows = ExampleTable([prepared], "train", ("history", "history_rating", "candidates")).read(shard).to_pylist()
        named = [(r, [titles[i] for i in r["history"]], [titles[i] for i in r["candidates"]]) for r in rows]
        batches.append([render(r["example"], history, r["history_rating"], shown) for r, history, shown in named])
    _barrier.wait()
    start = time.time()
    tokens = sum(len(ids) for batch in batches for ids in tokenizer(batch, verbose=False)["input_ids"])
    return tokens, start, time.time()


class Memory(threading.Thread):
    """Watches the memory of a process and all it started: the peak of their sum, pages shared counted once each."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            try:
                parent = psutil.Process(self.pid)
                family = [parent, *parent.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            total = 0
            for process in family:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def in_child(*arguments: str) -> tuple[dict[str, float], float]:
    """What `--inner` of this file prints in a process of its own, and the peak GiB of all its processes."""
    child = subprocess.Popen([sys.executable, __file__, "--inner", *arguments], stdout=subprocess.PIPE, text=True)
    memory = Memory(child.pid)
    memory.start()
    output, _ = child.communicate()
    memory.over.set()
    memory.join()
    if child.returncode:
        raise SystemExit(child.returncode)
    answer: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return answer, memory.peak / (1 << 30)


HEADER = (
    "interactions", "examples", "prepare s", "prepare rows/s", "prepare GiB",
    "tokenize tokens/s", "with start", "tokenizer alone", "share", "tokenize GiB",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 5, 25], help="sizes of the logs")
    parser.add_argument("--k-core", type=int, default=5)
    parser.add_argument("--tokenize", type=int, default=100_000, help="training examples to tokenize; 0: none")
    parser.add_argument("--write", type=Path, help="a Markdown file whose marked part is written anew")
    parser.add_argument("--inner", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        step, folder, number = args.inner
        steps = {"prepare": lambda: prepare(float(number), args.k_core, Path(folder))}
        steps |= {
            each.__name__: (lambda each=each: each(Path(folder), int(number))) for each in (tokenize, tokenizer_alone)
        }
        print(json.dumps(steps[step]()))
        return
    results = []
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    print("\n".join(lines), flush=True)
    for millions in args.millions:
        with tempfile.TemporaryDirectory() as folder:
            r, gib = in_child("prepare", folder, str(millions), f"--k-core={args.k_core}")
            cells = [f"{r['interactions']:,}", f"{r['examples']:,}", f"{r['prepare_s']:.1f}"]
            cells += [f"{r['interactions'] / r['prepare_s']:,.0f}", f"{gib:.2f}"]
            shards = min(args.tokenize // SHARD_ROWS, len(list((Path(folder) / "train").glob("part-*"))))
            if shards > 1:
                alone, _ = in_child("tokenizer_alone", folder, str(shards))
                t, t_gib = in_child("tokenize", folder, str(shards))
                cells += [f"{t['running_tokens_per_s']:,.0f}", f"{t['tokens_per_s']:,.0f}"]
                cells += [f"{alone['alone_tokens_per_s']:,.0f}"]
                cells += [f"{t['running_tokens_per_s'] / alone['alone_tokens_per_s']:.2f}", f"{t_gib:.2f}"]
        results.append(r)
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if len(results) > 1:
        n, wall, cpu = (np.log([r[key] for r in results]) for key in ("interactions", "prepare_s", "prepare_cpu_s"))
        exponents = (np.polyfit(n, times, 1)[0] for times in (wall, cpu))
        lines += ["", "Exponent of growth of prepare: {:.2f} by the clock, {:.2f} in CPU time.".format(*exponents)]
        print("\n".join(lines[-2:]))
    if args.write:
        page = args.write.read_text()
        marked = f"{MARK}\n\n" + "\n".join(lines) + f"\n\n{MARK}"
        args.write.write_text(re.sub(f"{MARK}.*{MARK}", lambda _: marked, page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
