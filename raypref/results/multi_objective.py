"""Sweeps over several keys at once: the Pareto front, how much each key matters, and all settings side by side."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from raypref.results.collect import Collection
from raypref.results.labels import math_symbol, metric_label, rows_of, symbol
from raypref.results.plotting import BLUE, GREY, TEXT
from raypref.results.summaries import summary

FEWEST = 4  # settings: fewer tell nothing of several keys
MOST_LABELS = 12  # of a front's settings
LOW_TO_HIGH = ["#3a7bd5", "#a63fc4", "#d5553a"]  # of a lightness that light and dark pages bear


def objectives(collection: Collection) -> list[str]:
    """The metrics that the search looked at and that there are values of; HR@1 and ValidRatio if none is named."""
    named = collection.sweep.get("metrics")
    wanted = (
        [str(m) for m in named] if isinstance(named, list) and len(named) > 1 else ["generated_hr@1", "valid_ratio"]
    )
    return [metric for metric in wanted if collection.has(metric, collection.choosing)]


def joint_table(collection: Collection) -> pd.DataFrame:
    """A row a setting: setting, the swept keys, default, a column for each objective (mean over seeds), split, pareto.

    `pareto`: no other setting is as good in every objective and better in one.
    """
    split, frame = collection.choosing, pd.DataFrame()
    metrics = objectives(collection)
    for metric in metrics:
        found = summary(collection, metric, split)
        found = found[~found["sft"].astype(bool)]
        part = found[["setting", *collection.parameters, "default"]].assign(**{metric: found["mean"]})
        frame = part if frame.empty else frame.merge(part[["setting", metric]], on="setting")
    if frame.empty:
        return pd.DataFrame(columns=["setting", *collection.parameters, "default", *metrics, "split", "pareto"])
    return frame.assign(split=split, pareto=undominated(frame[metrics].to_numpy(dtype=float)))


def undominated(values: np.ndarray) -> np.ndarray:
    """(n,) which rows of `values` (n, k), all to be maximized, no other row dominates."""
    as_good = np.all(values[None, :, :] >= values[:, None, :], axis=2)
    better = np.any(values[None, :, :] > values[:, None, :], axis=2)
    return np.asarray(~np.any(as_good & better, axis=1))


def importance_table(collection: Collection) -> pd.DataFrame:
    """How much each swept key matters to each objective: symbol, parameter, metric, importance (sums to 1 a metric).

    PED-ANOVA (Watanabe et al. 2023), as Optuna computes it: how differently a key's values are spread among the best
    settings and among all of them. Empty with fewer than FEWEST settings, or with one key.
    """
    columns = ["symbol", "parameter", "metric", "importance"]
    table, keys = joint_table(collection), _varied(collection)
    if len(table) < FEWEST or len(keys) < 2:
        return pd.DataFrame(columns=columns)
    rows = []
    for metric in objectives(collection):
        for key, value in _importances(table, keys, metric).items():
            rows.append((symbol(key, collection.sweep), key, metric, value))
    return pd.DataFrame(rows, columns=columns)


def _importances(table: pd.DataFrame, keys: Sequence[str], metric: str) -> dict[str, float]:
    import warnings

    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces: dict[str, BaseDistribution] = {}
    for key in keys:
        if pd.api.types.is_numeric_dtype(table[key]):
            spaces[key] = FloatDistribution(float(table[key].min()), float(table[key].max()))
        else:
            spaces[key] = CategoricalDistribution(sorted(set(table[key])))
    study = optuna.create_study(direction="maximize")
    for row in rows_of(table):
        params = {key: row[key] for key in keys}
        study.add_trial(optuna.create_trial(params=params, distributions=spaces, value=float(row[metric])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        )


def _varied(collection: Collection) -> list[str]:
    return [key for key in collection.parameters if collection.done[key].nunique() > 1]


def pareto_figure(table: pd.DataFrame, metrics: Sequence[str], title: str = "") -> Figure:
    """The settings in the plane of the first two objectives; the undominated ones joined, lettered and listed."""
    x, y = metrics[:2]
    front = table[table["pareto"]].sort_values([x, y], ascending=False)
    listed = rows_of(front)[:MOST_LABELS]
    figure = Figure(figsize=(5.0, 3.8 + 0.2 * len(listed)), layout="constrained")
    ax = figure.subplots()
    ax.plot(table[x], table[y], "o", ms=4, mfc="none", mec=GREY, ls="none", label="settings")
    ax.plot(front[x], front[y], "o-", color=BLUE, ms=5, lw=1.4, label="Pareto front")
    default = table[table["default"]]
    ax.plot(default[x], default[y], "D", ms=10, mfc="none", mec=TEXT, ls="none", label="default")
    letters = iter(string.ascii_uppercase)
    places: dict[tuple[float, float], str] = {}  # settings that score the same share a point
    for row in listed:
        letter = next(letters)
        places[row[x], row[y]] = ", ".join(filter(None, [places.get((row[x], row[y])), letter]))
        ax.plot([], [], ls="none", label=f"{letter}  {row['setting']}")
    for place, text in places.items():
        ax.annotate(text, place, textcoords="offset points", xytext=(5, 5), fontsize=9)
    ax.set_xlabel(f"{metric_label(x)} ({table['split'].iloc[0]})")
    ax.set_ylabel(f"{metric_label(y)} ({table['split'].iloc[0]})")
    ax.margins(0.08)
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[:3], names[:3], frameon=False, fontsize=9)
    figure.legend(
        handles[3:], names[3:], loc="outside lower left", frameon=False, fontsize=9, handlelength=0, labelspacing=0.3
    )
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def importance_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A bar for each key, a panel for each objective."""
    metrics = list(dict.fromkeys(table["metric"]))
    figure = Figure(figsize=(4.3 * len(metrics), 0.6 + 0.45 * table["parameter"].nunique()), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics):
        part = table[table["metric"] == metric].sort_values("importance")
        ax.barh([math_symbol(str(name)) for name in part["symbol"]], part["importance"], color=BLUE)
        ax.set_xlabel(f"share of importance for {metric_label(str(metric))}")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def parallel_figure(table: pd.DataFrame, keys: Sequence[str], symbols: Sequence[str], title: str = "") -> Figure:
    """Parallel coordinates: an axis for each key and one for the first objective, a line a setting, by its colour."""
    metric = next(name for name in table.columns if name not in (*keys, "setting", "default", "split", "pareto"))
    columns, names = [*keys, metric], [*map(math_symbol, symbols), metric_label(metric)]
    places, ticks = zip(*(_scaled(table[column]) for column in columns))
    figure = Figure(figsize=(1.35 * len(columns) + 0.6, 3.8), layout="constrained")
    ax = figure.subplots()
    colours = LinearSegmentedColormap.from_list("score", LOW_TO_HIGH)
    for i in np.argsort(table[metric].to_numpy(dtype=float), kind="stable"):
        marked = {"ls": "--", "lw": 2.0, "label": "default"} if table["default"].iloc[i] else {"lw": 1.3}
        ax.plot(range(len(columns)), [place[i] for place in places], color=colours(float(places[-1][i])), **marked)
    for at, (column, marks) in enumerate(zip(columns, ticks)):
        ax.vlines(at, 0, 1, color=TEXT, lw=0.8)
        if pd.api.types.is_numeric_dtype(table[column]):
            (_, low), (_, high) = marks
            ax.text(at, -0.03, low, fontsize=9, ha="center", va="top")
            ax.text(at, 1.03, high, fontsize=9, ha="center", va="bottom")
        else:
            for place, text in marks:
                ax.text(at + 0.03, place, text, fontsize=9, va="center")
    ax.set_xticks(range(len(columns)), names)
    ax.set_yticks([])
    ax.set_ylim(-0.12, 1.12)
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    if table["default"].any():
        figure.legend(loc="outside lower right", frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _scaled(column: pd.Series) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Values from 0 to 1, and marks: the ends of a number's range, every choice of a word."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=float)
        low, high = float(values.min()), float(values.max())
        marks: list[tuple[float, str]] = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
        return (values - low) / ((high - low) or 1.0), marks
    choices = sorted(set(column.astype(str)))
    place = {choice: i / max(1, len(choices) - 1) for i, choice in enumerate(choices)}
    return column.astype(str).map(place).to_numpy(dtype=float), [(at, name) for name, at in place.items()]


def joint_alt(table: pd.DataFrame, metrics: Sequence[str]) -> str:
    """The front in words."""
    front = table[table["pareto"]].sort_values(metrics[0], ascending=False)
    said = [
        f"{row['setting']} ({', '.join(f'{metric_label(m)} {row[m]:.3f}' for m in metrics)})" for row in rows_of(front)
    ]
    return f"{len(table)} settings; {len(front)} undominated: {'; '.join(said[:6])}{' ...' if len(said) > 6 else ''}."


def importance_alt(table: pd.DataFrame) -> str:
    """`HR@1: λ 0.61, K 0.39.`"""
    parts: list[str] = []
    for metric, part in table.groupby("metric", sort=False):
        ranked = part.sort_values("importance", ascending=False)
        shares: list[Any] = [f"{s} {v:.2f}" for s, v in zip(ranked["symbol"], ranked["importance"])]
        parts.append(f"{metric_label(str(metric))}: {', '.join(shares)}.")
    return "Share of importance. " + " ".join(parts)
