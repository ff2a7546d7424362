"""Several sweeps as one: one table of all their trials, and curves of the keys that more than one of them swept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from raypref.results.collect import Collection
from raypref.results.curves import curve_table, numeric
from raypref.results.figures import CURVES, Drawing, split_shown
from raypref.results.labels import math_symbol, metric_label, setting_text, symbol, value_text

COLUMNS = ["sweep", "method", "dataset", "trial", "setting", "seed", "status", "split", "metric", "value", "users"]
COLUMNS += ["train_seconds", "evaluate_seconds", "peak_memory_gb", "error"]
ALL = "all.parquet"


def all_trials(collections: Sequence[Collection]) -> pd.DataFrame:
    """A row for each sweep, trial, split and metric; a trial without results has one row, without a metric."""
    parts = []
    for collection in collections:
        described = collection.trials.assign(
            sweep=str(collection.sweep.get("name", "")),
            method=str(collection.sweep.get("method") or ""),
            dataset=str(collection.sweep.get("dataset", "")),
            setting=[
                setting_text({key: row[key] for key in collection.parameters}, collection.sweep)
                for row in collection.trials.to_dict("records")
            ],
        )
        scores = collection.metrics[["trial", "split", "metric", "value", "users"]]
        parts.append(described.merge(scores, on="trial", how="left")[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def series_table(collections: Sequence[Collection], parameter: str) -> pd.DataFrame:
    """The curves of all sweeps over one key, in the columns of `curve_table` and `series` (method and data set)."""
    parts = []
    for collection in collections:
        if parameter in collection.parameters:
            name = " on ".join(filter(None, (collection.sweep.get(part) for part in ("method", "dataset"))))
            table = curve_table(collection, parameter, CURVES, split_shown(collection))
            parts.append(table[~table["sft"].astype(bool)].assign(series=name))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def shared_drawings(collections: Sequence[Collection]) -> list[Drawing]:
    """A figure for each key that two sweeps or more have curves over."""
    made, keys = [], dict.fromkeys(key for collection in collections for key in collection.parameters)
    for key in keys:
        table = series_table(collections, key)
        if len(table) and table["series"].nunique() > 1:
            short = key.rsplit(".", 1)[-1]
            made.append(
                Drawing(f"all-{short}", f"All over {symbol(key)}", table, series_figure, series_alt, divided=True)
            )
    return made


def series_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A panel for each metric, a line for each sweep; words, such as methods, stand below each other."""
    metrics, numbers = list(dict.fromkeys(table["metric"])), numeric(table)
    height = 3.6 if numbers else max(3.6, 1.6 + 0.3 * table["value"].nunique())
    figure = Figure(figsize=(4.3 * len(metrics), height), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics):
        for name, part in table[table["metric"] == metric].groupby("series", sort=False):
            part = part.sort_values("value") if numbers else part
            mean, low, high = (part[column].to_numpy(dtype=float) for column in ("mean", "low", "high"))
            errors = np.nan_to_num(np.stack([mean - low, high - mean]))
            style: dict[str, Any] = {"marker": "o", "ms": 4, "capsize": 3, "label": str(name)}
            if numbers:
                ax.errorbar(part["value"].tolist(), mean, yerr=errors, ls="-", **style)
            else:
                ax.errorbar(mean, [str(value) for value in part["value"]], xerr=errors, ls="none", **style)
        letter, label = math_symbol(str(table["symbol"].iloc[0])), metric_label(str(metric))
        ax.set_xlabel(letter if numbers else label)
        if numbers:
            ax.set_ylabel(label)
        else:
            ax.invert_yaxis()
        ax.grid(axis="y" if numbers else "x", lw=0.4, alpha=0.5)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def series_alt(table: pd.DataFrame) -> str:
    """Each series' best value in words."""
    said = []
    for (metric, name), part in table.groupby(["metric", "series"], sort=False):
        best = part.iloc[int(part["mean"].to_numpy().argmax())]
        said.append(f"{name}: best {metric_label(str(metric))} {best['mean']:.3f} at {value_text(best['value'])}.")
    return " ".join(said)


def write_together(collections: Sequence[Collection], folder: Path) -> list[Path]:
    """`all.parquet`, `all.csv`, and the figures that the sweeps share."""
    folder.mkdir(parents=True, exist_ok=True)
    table = all_trials(collections)
    table.to_parquet(folder / ALL, index=False)
    table.to_csv(folder / "all.csv", index=False)
    paths = [folder / ALL, folder / "all.csv"]
    for drawing in shared_drawings(collections):
        paths += drawing.save(folder)
    return paths
