"""Several curves in one figure: a key of numbers across, a curve for each value of a key of words.

K against HR@1 and cost, a curve for each way of choosing the negatives.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raypref.results.collect import Collection
from raypref.results.curves import quality_and_cost
from raypref.results.labels import math_symbol, metric_label, symbol, value_text
from raypref.results.plotting import side_by_side

LINE = "line"
"""Column beside those of `curve_table`: the value of the key of words."""
COLOURS = ("#2f6db5", "#c2571a", "#3a8f4f", "#8a4fa3", "#8a8a8a", "#b03a5b")
ASIDE = 0.012
"""Of the axis: how far each curve's points stand beside the former's, so that error bars don't hide each other."""


def keys_of_family(collection: Collection) -> tuple[str, str] | None:
    """The key of numbers and the key of words of a sweep over just these two, both varied; else none."""
    varied = [key for key in collection.parameters if collection.done[key].nunique() > 1]
    words = [key for key in varied if any(isinstance(value, str) for value in collection.done[key])]
    if len(varied) != 2 or len(words) != 1:
        return None
    return next(key for key in varied if key not in words), words[0]


def family_table(collection: Collection, across: str, words: str) -> pd.DataFrame:
    """HR@1 and cost over `across`, as `quality_and_cost` has them, for each value of `words`, named in column `line`.

    The SFT model, which none of them changes, comes once a metric.
    """
    parts: list[pd.DataFrame] = []
    for value in dict.fromkeys(collection.done[words]):
        table = quality_and_cost(collection, across, {words: value}).assign(**{LINE: value})
        parts.append(table[~table["sft"].astype(bool)] if parts else table)
    return pd.concat(parts, ignore_index=True).assign(words=symbol(words, collection.sweep))


def family_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A panel for each metric, a curve for each line, means with 95 % intervals; SFT as a grey line."""
    metrics = list(dict.fromkeys(table["metric"]))
    return side_by_side(metrics, lambda ax, metric: _panel(ax, table[table["metric"] == metric]), title)


def family_alt(table: pd.DataFrame) -> str:
    """The curves in words: `HR@1 against K by negatives_by: draw 0.25 at 1, 0.27 at 3; hard 0.26 at 1 ...`"""
    sentences = []
    for metric, part in table[~table["sft"].astype(bool)].groupby("metric", sort=False):
        curves = [
            f"{line} "
            + ", ".join(f"{mean:.3g} at {value_text(value)}" for value, mean in zip(own["value"], own["mean"]))
            for line, own in part.groupby(LINE, sort=False)
        ]
        first = part.iloc[0]
        sentences.append(
            f"{metric_label(str(metric))} against {first['symbol']} by {first['words']}: {'; '.join(curves)}."
        )
    return " ".join(sentences)


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    sft = table[table["sft"].astype(bool)]
    points = table[~table["sft"].astype(bool)]
    values = sorted(points["value"].unique())
    width = float(np.ptp(values)) or 1.0
    for mean in sft["mean"]:
        ax.axhline(mean, color="#8a8a8a", ls="--", lw=1.0, label="SFT")
    for number, (line, own) in enumerate(points.groupby(LINE, sort=False)):
        own = own.sort_values("value")
        mean, low, high = (own[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
        ax.errorbar(
            own["value"].to_numpy(dtype=float) + number * ASIDE * width, mean,
            yerr=np.nan_to_num(np.stack([mean - low, high - mean])), color=COLOURS[number % len(COLOURS)], marker="o",
            ms=4.5, capsize=3, lw=1.5, label=str(line),
        )  # fmt: skip
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xlabel(math_symbol(str(points["symbol"].iloc[0])))
    ax.set_ylabel(metric_label(str(points["metric"].iloc[0])))
    ax.grid(axis="y", lw=0.4, alpha=0.5)
