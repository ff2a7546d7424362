"""What a benchmark's lists of the whole catalog are worth beyond accuracy, as a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from raypref.results.collect import Collection
from raypref.results.render import Cells
from raypref.results.statistics import seed_interval
from raypref.results.summaries import settings

BEYOND = (
    *(f"catalog_hr@10_{name}" for name in ("head", "middle", "tail")),
    *(f"catalog_{name}@10" for name in ("coverage", "gini", "novelty", "diversity", "mgu", "dgu")),
)


def list_table(collection: Collection, dataset: str) -> pd.DataFrame:
    """A row for each method and metric of `BEYOND` that a benchmark has: dataset, method, metric, seeds, mean, low and
    high (95 % over seeds).
    """
    split, rows = collection.reported, []
    by_trial = collection.metrics[collection.metrics["split"] == split].set_index(["trial", "metric"])["value"]
    for setting in settings(collection):
        for metric in BEYOND:
            points = [by_trial[trial, metric] for trial in setting.ids if (trial, metric) in by_trial.index]
            if points:
                over = seed_interval(points)
                kept = {"seeds": over.n, "mean": over.mean, "low": over.low, "high": over.high}
                rows.append({"dataset": dataset, "method": setting.params["method"], "metric": metric, **kept})
    return pd.DataFrame(rows, columns=["dataset", "method", "metric", "seeds", "mean", "low", "high"])


def list_cells(table: pd.DataFrame, dataset: str) -> Cells | None:
    """The rows of one data set as a table; None where there are none."""
    rows = table[table["dataset"] == dataset]
    if rows.empty:
        return None
    metrics = [metric for metric in BEYOND if metric in set(rows["metric"])]
    shown = []
    for method in dict.fromkeys(rows["method"]):
        own = rows[rows["method"] == method].set_index("metric")
        texts = [method, str(int(own["seeds"].max()))]
        texts += [score_text(own.loc[metric]) if metric in own.index else "-" for metric in metrics]
        shown.append([(text, False) for text in texts])
    names = [metric.removeprefix("catalog_").replace("hr@", "HR@").replace("_", " ") for metric in metrics]
    note = (
        "Of each user's first 10 over the whole catalog; mean over seeds ± half the 95 % interval over seeds, nothing "
        "tested. head, middle, tail: targets by thirds of the training interactions, the most popular items first. "
        "Novelty in bits. mgu, dgu: how unlike the histories' genres the recommended ones are. Neither novelty nor "
        "diversity is better for being greater."
    )
    return Cells(f"{dataset}: beyond accuracy", ["method", "seeds", *names], shown, [note])


def score_text(row: Any) -> str:
    half = max(row["high"] - row["mean"], row["mean"] - row["low"])  # one end may be cut off at 0 or 1
    return f"{row['mean']:.4f}" + (f" ± {half:.4f}" if half == half else "")
