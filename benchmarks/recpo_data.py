"""What RecPO's published data code changes against its text: which title is preferred, which negatives, what margin.

    python benchmarks/recpo_data.py --data ml-100k             # RAYPREF_DATA names the folder; about half a minute
    python benchmarks/recpo_data.py                            # the generated users

Of each `data.target` and way of taking K negatives, over all training examples: how many there are, how often another
title than the next item is preferred, and its mean rating and place among the later items (1: the next); of the
negatives drawn, the share that are the user's own later items, their mean rating, and RecPO's handicap of a pair in
nats (`align.objective.lambda` 2, alpha 0.5). Nothing is trained.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from raypref.config.data import DataConfig
from raypref.config.objectives import Recpo
from raypref.config.sources import GeneratedSource, MovieLens100KSource
from raypref.data.columns import matrix
from raypref.data.examples import examples_of
from raypref.data.reading import read_log
from raypref.sweeps.forecast import handicap
from raypref.training.negatives import NegativeChoice, order

WAYS = {
    "drawn from all (the text)": NegativeChoice(),
    "drawn from random ones": NegativeChoice("random"),
    "drawn from the user's later ones of less utility": NegativeChoice("rated"),
    "the least useful of all": NegativeChoice("all", "utility"),
}
COLUMNS = (
    "preferred title", "examples", "not the next item", "its rating", "its place", "K negatives", "later items",
    "their rating", "handicap, nats",
)  # fmt: skip


def training_examples(config: DataConfig) -> pa.Table:
    """All training examples, candidates drawn; items in place of their tokens, which are only counted."""
    examples = pa.concat_tables(list(examples_of(read_log(config), config).shards("train")))
    return examples.append_column("title_ids", examples["candidates"])


def row(target: str, examples: pa.Table, way: str, k: int) -> list[str]:
    """The table's cells for one target and way of taking negatives."""
    rating, latency, place = matrix(examples["rating"]), matrix(examples["latency"]), examples["target"].to_numpy()
    lots = np.random.default_rng(0).integers(1 << 62, size=rating.shape, dtype=np.uint64)
    taken = np.column_stack([place, order(WAYS[way], examples, lots)[:, :k]])
    rating, latency = (np.take_along_axis(values, taken, axis=1) for values in (rating, latency))
    rated = ~np.isnan(rating[:, 1:])
    return [
        target,
        f"{len(place):,}",
        f"{np.mean(latency[:, 0] > 1):.1%}",
        f"{rating[:, 0].mean():.2f}",
        f"{latency[:, 0].mean():.2f}",
        way,
        f"{np.mean(~np.isnan(latency[:, 1:])):.1%}",
        f"{rating[:, 1:][rated].mean():.2f}" if rated.any() else "none",
        f"{handicap(Recpo(), rating, latency, np.zeros(len(place), dtype=int)):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("generated", "ml-100k"), default="generated")
    parser.add_argument("--negatives", type=int, default=3, metavar="K")
    options = parser.parse_args()
    source = GeneratedSource()
    if options.data == "ml-100k":
        source = MovieLens100KSource(path=Path(os.environ["RAYPREF_DATA"]) / "ml-100k")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for target in ("recpo", "utility"):
        examples = training_examples(DataConfig(source=source, target=target))
        for way in WAYS:
            print("| " + " | ".join(row(target, examples, way, options.negatives)) + " |", flush=True)


if __name__ == "__main__":
    main()
