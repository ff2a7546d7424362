"""Is our SASRec as good as RecTools'? HR@10 of both on one split, over the whole catalog, with intervals over users.

Both read a user's interactions but the last two, stop when the second-last is hit no oftener, and are asked for the
last: the items that the user has not met are ranked. Same width, layers, heads, length, dropout, learning rate, batch
and loss (softmax over the catalog). RecTools has SASRec and no GRU4Rec. It reads the latest interactions of a user,
`--max-length` of them; ours cuts longer sequences into several windows.

RecTools wants older packages than ours, so it runs in an interpreter of its own:

    python -m venv rectools-venv && rectools-venv/bin/pip install 'rectools[torch]==0.19.0' torch
    python benchmarks/against_rectools.py --data ml-100k --rectools rectools-venv/bin/python

Exit code 1 says that ours is worse by more than `--margin` of theirs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raypref.config.data import DataConfig
from raypref.config.recommender import Sasrec
from raypref.config.sources import MovieLens100KSource
from raypref.data.examples import ExampleBuilder
from raypref.data.sources import SOURCES
from raypref.recommenders import Questions, TrainingLog, fitted
from raypref.recommenders.recommender import SequentialRecommender
from raypref.results.statistics import paired_bootstrap

K = 10
CHILD = Path(__file__).parent / "rectools_sasrec.py"


class Split:
    """Each user's interactions but the last two; the second-last; the last; items as codes without gaps."""

    def __init__(self, user: np.ndarray, item: np.ndarray) -> None:
        """Columns sorted by user and time."""
        self.user, self.item = user, np.unique(item, return_inverse=True)[1]
        self.items = int(self.item.max()) + 1
        self.ends = np.flatnonzero(np.r_[user[1:] != user[:-1], True])
        self.starts = np.r_[0, self.ends[:-1] + 1]
        if (self.ends - self.starts).min() < 3:
            raise SystemExit("a user has fewer than 4 interactions")

    def rows(self, name: str) -> np.ndarray:
        """Row numbers of train, validation or test."""
        if name != "train":
            return self.ends - (name == "validation")
        held = np.r_[self.ends, self.ends - 1]
        return np.setdiff1d(np.arange(len(self.user)), held)

    def questions(self, name: str) -> Questions:
        asked = self.rows(name)
        histories = [self.item[start:row] for start, row in zip(self.starts, asked)]
        return Questions(histories, self.item[asked].astype(np.int64))

    def write(self, folder: Path) -> None:
        """The three parts as CSV; a row's number stands for its time."""
        for name in ("train", "validation", "test"):
            lines = [f"{self.user[row]},{self.item[row]},{row}" for row in self.rows(name)]
            (folder / f"{name}.csv").write_text("\n".join(["user_id,item_id,datetime", *lines]) + "\n")


def hits(model: SequentialRecommender, questions: Questions) -> np.ndarray:
    """(n,) whether each answer is among the first K that the user has not met; a tie counts against it."""
    found = []
    for history, answer in zip(questions.histories, questions.answers):
        with torch.no_grad():
            scores = model.item_embedding @ model.sequence_embedding([history])[0]
        scores[torch.from_numpy(history)] = -torch.inf
        found.append(int((scores >= scores[answer]).sum()) <= K)
    return np.array(found)


def ours(split: Split, options: dict[str, Any]) -> list[dict[str, Any]]:
    """As `rectools_sasrec.py` reports, of our SASRec."""
    rows = split.rows("train")
    log = TrainingLog(split.user[rows], split.item[rows], split.items)
    found = []
    for seed in range(options["seeds"]):
        settings = {k: v for k, v in options.items() if k in Sasrec.model_fields}
        settings |= {"sampled_items": split.items, "l2": (0.0,), "seed": seed}
        started = time.process_time()
        model, facts = fitted(Sasrec(**settings), log, torch.device("cpu"), split.questions("validation"))
        assert isinstance(model, SequentialRecommender)
        seconds = round(time.process_time() - started, 1)
        kept = {k: facts[k] for k in ("best_epoch", "epochs")}
        found.append({"hits": hits(model.eval(), split.questions("test")), "cpu_seconds": seconds, **kept})
    return found


def compare(mine: np.ndarray, theirs: np.ndarray, margin: float) -> bool:
    """Print both; is ours no worse than `margin` of theirs? Both (seeds, users)."""
    users = np.arange(mine.shape[1])
    for name, values in (("raypref", mine), ("RecTools", theirs)):
        alone = paired_bootstrap(values.mean(axis=0), np.zeros(len(users)), users)
        by_seed = ", ".join(f"{value:.4f}" for value in values.mean(axis=1))
        print(f"{name:<9} HR@{K} {values.mean():.4f}, over users [{alone.low:.4f}, {alone.high:.4f}]; seeds {by_seed}")
    difference = paired_bootstrap(mine.mean(axis=0), theirs.mean(axis=0), users)
    relative = mine.mean() / theirs.mean() - 1
    print(
        f"difference {mine.mean() - theirs.mean():+.4f} ({relative:+.1%}), 95 % over users [{difference.low:+.4f}, "
        f"{difference.high:+.4f}], p = {difference.p:.3f}"
    )
    return bool(relative >= -margin)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens 100K (u.data, u.item)")
    parser.add_argument("--rectools", required=True, help="Python of an environment with rectools[torch]")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--max-length", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32, help="sequences of one step")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--margin", type=float, default=0.03)
    options = vars(parser.parse_args(arguments))
    data, python, margin = (options.pop(name) for name in ("data", "rectools", "margin"))
    torch.set_num_threads(options["threads"])
    log = SOURCES["ml-100k"](MovieLens100KSource(path=data))
    builder = ExampleBuilder(log, DataConfig(k_core=1, target="next"))
    split = Split(builder.user, builder.item)
    print(f"{len(split.ends)} users, {split.items} items, {len(split.user)} interactions; {options}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        split.write(Path(folder))
        (Path(folder) / "options.json").write_text(json.dumps(options))
        found = ours(split, options)
        subprocess.run([python, str(CHILD), folder], check=True)
        theirs = json.loads((Path(folder) / "theirs.json").read_text())
    for name, runs in (("raypref", found), ("RecTools", theirs)):
        facts = "; ".join(f"best of {r['epochs']} epochs is {r['best_epoch']}, {r['cpu_seconds']} CPU-s" for r in runs)
        print(f"{name:<9} {facts}")
    well = compare(*(np.array([run["hits"] for run in runs], dtype=float) for runs in (found, theirs)), margin)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
