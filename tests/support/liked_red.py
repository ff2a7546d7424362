"""A log in which everybody likes the red items; a list of 8 candidates holds few of them, so chance has 1 in 8."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from raypref.stages.stage import Chain
from raypref.storage.store import Store
from tests.support.tiny_chain import changed, run

REDS, ITEMS = 20, 60


def evaluated(folder: Path, blue_rating: int, **settings: Any) -> tuple[Store, Chain, pd.DataFrame]:
    """A run on such a log in `folder`, and the rows of its test users; `blue_rating`: of the items that are not red."""
    rng = random.Random(0)
    lines = ["user,item,title,rating,timestamp"]
    for user in range(80):
        items = [*rng.sample(range(REDS), 10), *rng.sample(range(REDS, ITEMS), 1)]
        rng.shuffle(items)
        for time, item in enumerate(items):
            title, rating = (f"Red {item:02d}", 5) if item < REDS else (f"Blue {item:02d}", blue_rating)
            lines.append(f"u{user},{item},{title},{rating},{time}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    config = changed(
        data__source={"kind": "csv", "path": str(folder / "log.csv"), "domain": "movie"}, data__k_core=1,
        data__candidates={"train_future": 1, "train_random": 7, "eval_random": 7},
        data__max_train_examples_per_user=6, prompt__ratings=False, sft__learning_rate=5e-3,
        evaluation__splits=["test"], evaluation__max_examples=None, **settings,
    )  # fmt: skip
    store = Store(folder / "root")
    plan, _ = run(config, store)
    return store, plan, pq.read_table(store.path(plan.evaluate.address) / "rows.parquet").to_pandas()
