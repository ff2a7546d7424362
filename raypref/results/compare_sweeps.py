"""Several sweeps as one: one table of all their trials, and curves of the keys that more than one of them swept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raypref.config.base import leaves
from raypref.errors import UserError
from raypref.results.collect import Collection
from raypref.results.curves import COLUMNS as CURVE_COLUMNS
from raypref.results.curves import curve_table, numeric
from raypref.results.figures import CURVES, FORMATS, Drawing
from raypref.results.labels import math_symbol, metric_label, setting_text, symbol, value_text
from raypref.results.plotting import side_by_side
from raypref.storage.store import write_atomic

COLUMNS = ["sweep", "series", "method", "dataset", "trial", "setting", "seed", "status", "split", "metric", "value"]
COLUMNS += ["users", "train_seconds", "evaluate_seconds", "peak_memory_gb", "error"]
ALL, SERIES = "all.parquet", "all-curves.parquet"


def all_trials(collections: Sequence[Collection]) -> pd.DataFrame:
    """A row for each sweep, trial, split and metric; a trial without results has one row, without a metric."""
    parts = []
    for collection, series in zip(collections, series_names(collections)):
        described = collection.trials.assign(
            sweep=str(collection.sweep.get("name", "")),
            series=series,
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


def series_names(collections: Sequence[Collection]) -> list[str]:
    """What each sweep is called in a figure of several: method and data set, and as much more as tells them apart.

    Of sweeps that are called alike each adds its preset, then the sweep's own name, then what else their configs
    differ in (two keys at most), as far as these differ; what is alike in all of that is numbered.
    """
    accounts = [collection.sweep for collection in collections]
    configs = [_settled(account) for account in accounts]
    names = [" on ".join(str(a[part]) for part in ("method", "dataset") if a.get(part)) for a in accounts]
    ways: list[Callable[[int, list[int]], list[str]]] = [
        lambda i, alike: [str(configs[i].get("name", ""))],
        lambda i, alike: [str(accounts[i].get("name", ""))],
        lambda i, alike: _differing(configs[i], [configs[j] for j in alike]),
        lambda i, alike: [str(1 + alike.index(i))],
    ]
    for more in ways:
        for name in {name for name in names if names.count(name) > 1}:
            alike = [i for i, other in enumerate(names) if other == name]
            said = [", ".join(more(i, alike)) for i in alike]
            if len(set(said)) > 1:
                for i, words in zip(alike, said):
                    names[i] = ", ".join(filter(None, (name, words)))
    return names


def _settled(account: Mapping[str, Any]) -> dict[str, Any]:
    """The config's keys, dotted, without those that the sweep varies."""
    config = account.get("config")
    found = dict(leaves(config)) if isinstance(config, dict) else {}
    return {key: value for key, value in found.items() if key not in account["space"]}


def _differing(config: Mapping[str, Any], others: Sequence[Mapping[str, Any]], most: int = 2) -> list[str]:
    keys = [key for key in config if any(other.get(key) != config[key] for other in others)]
    return [f"{symbol(key)}={value_text(config[key])}" for key in keys[:most]]


def series_table(collections: Sequence[Collection], parameter: str) -> pd.DataFrame:
    """The curves of all sweeps over one key, in the columns of `curve_table` and `series` (see `series_names`).

    Where one sweep has numbers and another words, all are words.
    """
    parts = []
    for collection, series in zip(collections, series_names(collections)):
        if parameter in collection.parameters:
            table = curve_table(collection, parameter, CURVES)
            parts.append(table[~table["sft"].astype(bool)].assign(series=series))
    if not parts:
        return pd.DataFrame(columns=[*CURVE_COLUMNS, "series"])
    table = pd.concat(parts, ignore_index=True)
    return table if numeric(table) else table.assign(value=table["value"].map(value_text))


def shared_table(collections: Sequence[Collection]) -> pd.DataFrame:
    """`series_table` of each key that two sweeps or more have curves over: all that the shared figures show."""
    keys = dict.fromkeys(key for collection in collections for key in collection.parameters)
    tables = [series_table(collections, key) for key in keys]
    shared = [table for table in tables if table["series"].nunique() > 1]
    return pd.concat(shared, ignore_index=True) if shared else pd.DataFrame(columns=[*CURVE_COLUMNS, "series"])


def shared_drawings(shared: pd.DataFrame) -> list[Drawing]:
    """A figure for each key of `shared_table`."""
    made = []
    for key, part in shared.groupby("parameter", sort=False):
        table, short = part.reset_index(drop=True).infer_objects(), str(key).rsplit(".", 1)[-1]
        heading = f"All over {table['symbol'].iloc[0]}"
        made.append(Drawing(f"all-{short}", heading, table, series_figure, series_alt, divided=True))
    return made


def series_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A panel for each metric, a line for each sweep; words, such as methods, stand below each other."""
    metrics, numbers = list(dict.fromkeys(table["metric"])), numeric(table)
    height = 3.6 if numbers else max(3.6, 1.6 + 0.3 * table["value"].nunique())

    def panel(ax: Axes, metric: str) -> None:
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

    return side_by_side(metrics, panel, title, height, columns=3)


def series_alt(table: pd.DataFrame) -> str:
    """Each series' best value in words."""
    said = []
    for (metric, name), part in table.groupby(["metric", "series"], sort=False):
        best = part.iloc[int(part["mean"].to_numpy().argmax())]
        said.append(f"{name}: best {metric_label(str(metric))} {best['mean']:.3f} at {value_text(best['value'])}.")
    return " ".join(said)


def write_together(collections: Sequence[Collection], folder: Path) -> list[Path]:
    """`all.parquet`, `all.csv`, the figures that the sweeps share, and `all-curves.parquet`, all that these show.

    A value of a swept key there is JSON, as one column holds the numbers of one key and the words of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, shared = all_trials(collections), shared_table(collections)
    kept = shared.assign(value=shared["value"].map(json.dumps))
    write_atomic(folder / ALL, lambda path: table.to_parquet(path, index=False))
    write_atomic(folder / SERIES, lambda path: kept.to_parquet(path, index=False))
    table.to_csv(folder / "all.csv", index=False)
    drawn = [path for drawing in shared_drawings(shared) for path in drawing.save(folder)]
    return [folder / ALL, folder / "all.csv", folder / SERIES, *drawn]


def drawings_of(folder: Path) -> list[Drawing]:
    """The shared figures again, from what `write_together` left in a folder alone.

    Raises:
        UserError: the table can't be read.
    """
    try:
        shared = pd.read_parquet(folder / SERIES)
    except (OSError, pa.ArrowException) as error:
        hint = "collect these sweeps together again"
        raise UserError(f"the sweeps' curves can't be read: {error}", where=str(folder / SERIES), hint=hint) from error
    points = shared["points"].map(lambda found: [float(point) for point in found])
    return shared_drawings(shared.assign(value=shared["value"].map(json.loads).astype(object), points=points))


def draw_together(folder: Path, out: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Draw the shared figures again in `out`."""
    return [path for drawing in drawings_of(folder) for path in drawing.save(out, formats=formats)]
