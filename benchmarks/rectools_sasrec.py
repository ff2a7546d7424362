"""RecTools' SASRec on interactions from a file; run by `against_rectools.py` in an interpreter that has RecTools.

Reads FOLDER/{train,validation,test}.csv (user_id, item_id, datetime) and FOLDER/options.json. Writes
FOLDER/theirs.json: for each seed the hit of each test user, in the file's order, among its 10 recommendations, and how
many epochs it took.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

K = 10


def trainer() -> Trainer:
    """One epoch at a time, without files and messages."""
    return Trainer(
        min_epochs=1, max_epochs=1, deterministic=True, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def dataset(*tables: pd.DataFrame) -> Dataset:
    return Dataset.construct(pd.concat(tables).assign(**{Columns.Weight: 1.0}))


def hits(model: SASRecModel, known: Dataset, asked: pd.DataFrame) -> list[bool]:
    """Whether each asked item is among the first K that its user has not met."""
    found = model.recommend(users=asked[Columns.User].to_numpy(), dataset=known, k=K, filter_viewed=True)
    lists = found.groupby(Columns.User)[Columns.Item].agg(set)
    return [item in lists[user] for user, item in zip(asked[Columns.User], asked[Columns.Item])]


def fitted(seed: int, options: dict[str, Any], train: pd.DataFrame, asked: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Epochs until the validation items are hit no oftener; the test hits of the best epoch."""
    seed_everything(seed)
    model = SASRecModel(
        n_blocks=options["layers"], n_heads=options["heads"], n_factors=options["dimension"],
        dropout_rate=options["dropout"], session_max_len=options["max_length"], loss="softmax",
        lr=options["learning_rate"], batch_size=options["batch"], get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )  # fmt: skip
    before = dataset(train)
    later = dataset(train, asked["validation"])
    started, best, result, epoch = time.process_time(), -1.0, {}, 0
    for epoch in range(1, options["epochs"] + 1):
        model.fit_partial(before, min_epochs=1, max_epochs=1)
        found = hits(model, before, asked["validation"])
        value = sum(found) / len(found)
        if value > best:
            best = value
            result = {"best_epoch": epoch, "validation": value, "hits": hits(model, later, asked["test"])}
        if epoch - result["best_epoch"] >= options["patience"]:
            break
    return {**result, "epochs": epoch, "cpu_seconds": round(time.process_time() - started, 1)}


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    options = json.loads((folder / "options.json").read_text())
    torch.set_num_threads(options["threads"])
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("train", "validation", "test")}
    for table in tables.values():
        table[Columns.Datetime] = pd.to_datetime(table[Columns.Datetime], unit="s")
    train = tables.pop("train")
    found = [fitted(seed, options, train, tables) for seed in range(options["seeds"])]
    (folder / "theirs.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
