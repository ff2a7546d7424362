"""Sensitivity curves: the table of what is drawn, and the drawing of that table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raypref.errors import UserError
from raypref.results.collect import Collection
from raypref.results.effect import best_beside, chance_level
from raypref.results.labels import COSTS, math_symbol, metric_label, rows_of, same, symbol, value_text
from raypref.results.plotting import BLUE, GREEN, GREY, TEXT, side_by_side
from raypref.results.statistics import seed_interval
from raypref.results.summaries import margin_of, settings, summary
from raypref.results.tables import headline_metric

METRICS = ("generated_hr@1", "valid_ratio")
HITS = ("generated_hr@1", "exact_hr@1")
COLUMNS = ["parameter", "symbol", "value", "metric", "split", "mean", "low", "high", "over", "low_users", "high_users"]
COLUMNS += ["seeds", "points", "default", "sft", "margin", "chance", "recommender", "best"]


def curve_table(
    collection: Collection,
    parameter: str,
    metrics: Sequence[str] = METRICS,
    at: Mapping[str, Any] = MappingProxyType({}),
) -> pd.DataFrame:
    """What a curve over `parameter` shows: a row for each metric and value, and one for the SFT model.

    In a sweep over several keys the others stay at their default, or where `at` says; trials elsewhere are not part of
    the curve.

    Columns: parameter, symbol, value (NaN or None for SFT), metric, split, mean (over seeds), low, high (95 %), over
    (what low and high are of: "seeds", "users" where there is one model, "" for none), low_users, high_users, seeds,
    points (each seed's value), default, sft, margin (within it of the default a setting counts as equivalent; NaN for
    metrics that no verdict is on), chance (of one who points blindly; NaN for metrics that have none), recommender (the
    best one beside the sweep, "" for none), best (its score).

    Raises:
        UserError: the sweep does not vary this key.
    """
    if parameter not in collection.parameters:
        known = ", ".join(collection.parameters)
        raise UserError(f"the sweep does not vary {parameter}", where="parameter", hint=f"choose one of: {known}")
    others = {key: value for key, value in (_default(collection) | dict(at)).items() if key != parameter}
    rows: list[dict[str, Any]] = []
    split = collection.reported
    for metric in metrics:
        if not collection.has(metric, split):
            continue
        for found in rows_of(summary(collection, metric, split)):
            if not found["sft"] and not all(same(found[key], value) for key, value in others.items()):
                continue
            over = "seeds" if found["seeds"] > 1 else "users"
            low, high = (found["low"], found["high"]) if over == "seeds" else (found["low_users"], found["high_users"])
            bounds = {"low": low, "high": high, "over": over if np.isfinite(low) else ""}
            described = {
                "parameter": parameter,
                "symbol": symbol(parameter, collection.sweep),
                "value": found[parameter],
            }
            margin = margin_of(collection) if metric == headline_metric(collection) else np.nan
            lines: dict[str, Any] = {"margin": margin, "chance": chance_level(collection) if metric in HITS else np.nan}
            lines |= dict(zip(("recommender", "best"), best_beside(collection, metric, split)))
            rows.append(found | described | bounds | lines | {"metric": metric, "split": split})
    return pd.DataFrame(_ranked(rows), columns=COLUMNS)


def cost_table(collection: Collection, parameter: str, at: Mapping[str, Any] = MappingProxyType({})) -> pd.DataFrame:
    """What the trials on a curve cost, in the columns of `curve_table`: training time and peak memory for COSTS' names.

    Trials that another sweep computed tell their cost too, as their stages' manifests have it.
    """
    rows: list[dict[str, Any]] = []
    others = {key: value for key, value in (_default(collection) | dict(at)).items() if key != parameter}
    for metric in [name for name in COSTS if name in collection.trials]:
        cost = dict(zip(collection.trials["trial"], collection.trials[metric]))
        for setting in settings(collection):
            points = [cost[trial] for trial in setting.ids if np.isfinite(cost[trial])]
            if not points or not all(same(setting.params[key], value) for key, value in others.items()):
                continue
            interval = seed_interval(points)
            described = {"parameter": parameter, "symbol": symbol(parameter, collection.sweep), "sft": False}
            described |= {
                "value": setting.params[parameter],
                "metric": metric,
                "split": collection.reported,
                "points": points,
            }
            bounds = {"mean": interval.mean, "low": max(interval.low, 0.0), "high": interval.high}
            over = "seeds" if np.isfinite(interval.low) else ""
            users: dict[str, Any] = {"low_users": np.nan, "high_users": np.nan, "default": setting.default}
            users |= {"margin": np.nan, "chance": np.nan, "recommender": "", "best": np.nan}
            rows.append(described | bounds | users | {"over": over, "seeds": len(points)})
    return pd.DataFrame(_ranked(rows), columns=COLUMNS)


def quality_and_cost(
    collection: Collection, parameter: str, at: Mapping[str, Any] = MappingProxyType({})
) -> pd.DataFrame:
    """HR@1 and beside it what it costs over one key: the rows of `curve_table` for HR@1, then those of `cost_table`.

    One figure then shows what a higher K buys and at what price, as NAPO's figures 1a and 3c do. Empty where no trial's
    cost is known; without HR@1 where no trial was evaluated.
    """
    cost = rows_of(cost_table(collection, parameter, at))
    quality = rows_of(curve_table(collection, parameter, [headline_metric(collection)], at)) if cost else []
    return pd.DataFrame(_ranked([*quality, *cost]), columns=COLUMNS)


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Words, which have no order of their own, by what they score in the first metric; numbers as they are."""
    if not any(isinstance(row["value"], str) for row in rows):
        return rows
    first = {row["value"]: -row["mean"] for row in rows if row["metric"] == rows[0]["metric"]}
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    return sorted(rows, key=lambda row: (metrics.index(row["metric"]), first.get(row["value"], math.inf)))


def _default(collection: Collection) -> dict[str, Any]:
    default = collection.sweep.get("default")
    return {key: default[key] for key in collection.parameters if key in default} if isinstance(default, dict) else {}


def alt_text(table: pd.DataFrame) -> str:
    """The curve in words: `HR@1 against λ: 0.253 at 0, 0.287 at 0.5 (default); SFT 0.220.`"""
    sentences = []
    for metric, part in table.groupby("metric", sort=False):
        points = part[~part["sft"]]
        said = [
            f"{mean:.3f} at {value_text(value)}{' (default)' if default else ''}"
            for value, mean, default in zip(points["value"], points["mean"], points["default"])
        ]
        said = [*said[:20], f"{len(said) - 20} more"] if len(said) > 20 else said
        sft = "".join(f"; SFT {mean:.3f}" for mean in part[part["sft"]]["mean"])
        sentences.append(f"{metric_label(str(metric))} against {part['symbol'].iloc[0]}: {', '.join(said)}{sft}.")
    return " ".join(sentences)


def curve_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A panel for each metric, side by side, as RecPO's figure 6; of words, such as methods, a line each.

    Raises:
        UserError: the table is empty.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    if not metrics:
        raise UserError("there is nothing to draw: no finished trial has these metrics", where="curve")
    height = 3.5 if numeric(table) else max(3.0, 1.5 + 0.27 * table["value"].nunique())
    return side_by_side(
        metrics,
        lambda ax, metric: _panel(ax, table[table["metric"] == metric]),
        title, height, columns=2 if len(metrics) == 1 else 4,
    )  # fmt: skip


def numeric(table: pd.DataFrame) -> bool:
    """Whether a curve table's values are numbers, and not words."""
    values = table.loc[~table["sft"].astype(bool), "value"]
    return all(isinstance(value, (int, float)) for value in values)


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    points, sft = table[~table["sft"].astype(bool)], table[table["sft"].astype(bool)]
    numbers = numeric(table)
    values = points["value"].tolist()
    x = np.array(values, dtype=float) if numbers else np.arange(len(values), dtype=float)
    if numbers:
        order = np.argsort(x)
        x, points = x[order], points.iloc[order]

    def turned(along: Any, score: Any) -> tuple[Any, Any]:
        """Numbers lie along x and scores up y; words stand below each other, where there is room for them."""
        return (along, score) if numbers else (score, along)

    _baseline(ax, sft, upright=not numbers)
    _level_lines(ax, points, upright=not numbers)
    mean, low, high = (points[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    over = "/".join(sorted(set(points["over"]) - {""}))
    errors = np.nan_to_num(np.stack([mean - low, high - mean]))
    of_users = points[["low_users", "high_users"]].to_numpy(dtype=float).T
    if over == "seeds" and np.isfinite(of_users).any():
        wide = np.clip(np.nan_to_num(np.stack([mean - of_users[0], of_users[1] - mean])), 0, None)
        ax.errorbar(
            *turned(x, mean), fmt="none", ecolor=BLUE, alpha=0.25, lw=6, label="95 % over users", zorder=1,
            **{"yerr" if numbers else "xerr": wide},
        )  # fmt: skip
    aside = 0.018 * (float(np.ptp(x)) or 1.0) if numbers else 0.3  # beside the error bar, which would hide them
    each = [(at + aside, score) for at, raw in zip(x, points["points"]) for score in raw]
    place = turned(*np.array(each, dtype=float).reshape(-1, 2).T)  # in one go: drawn apart, a thousand marks are slow
    ax.plot(*place, "o", ms=3.5, mfc="none", mec=GREY, mew=0.9, ls="none", label="each seed", zorder=2)
    label = f"mean, 95 % over {over}" if over else "mean"
    ax.errorbar(
        *turned(x, mean), color=BLUE, ls="-" if numbers else "none", marker="o", ms=5, capsize=3, lw=1.6, label=label,
        zorder=3, **{"yerr" if numbers else "xerr": errors},
    )  # fmt: skip
    chosen = points["default"].to_numpy(dtype=bool)
    if chosen.any():
        place = turned(x[chosen], mean[chosen])
        ax.plot(*place, "D", ms=10, mfc="none", mec=TEXT, mew=1.2, ls="none", label="default", zorder=4)
    name = metric_label(str(table["metric"].iloc[0]))
    name = name if table["split"].iloc[0] == "test" else f"{name} ({table['split'].iloc[0]})"
    across, up = turned(math_symbol(str(table["symbol"].iloc[0])), name)
    ax.set_xlabel(across)
    if numbers:
        ax.set_ylabel(up)
    if numbers and len(x) <= 10:
        ax.set_xticks(x, [f"{value:g}" for value in x])
    elif not numbers:
        ax.set_yticks(x, [str(value) for value in values])
        ax.set_ylim(len(x) - 0.4, -0.6)
    ax.grid(axis="y" if numbers else "x", lw=0.4, alpha=0.5)


def _baseline(ax: Axes, sft: pd.DataFrame, upright: bool) -> None:
    """The SFT model: a line, and its interval as a band."""
    line, band = (ax.axvline, ax.axvspan) if upright else (ax.axhline, ax.axhspan)
    for mean, low, high in sft[["mean", "low", "high"]].to_numpy(dtype=float):
        line(mean, color=GREY, ls="--", lw=1.2, label="SFT, 95 % over users", zorder=1)
        if np.isfinite(low):
            band(low, high, color=GREY, alpha=0.15, lw=0, zorder=0)


def _level_lines(ax: Axes, points: pd.DataFrame, upright: bool) -> None:
    """Where a setting counts as equivalent to the default, as a band; chance and the best recommender as lines."""
    line, band = (ax.axvline, ax.axvspan) if upright else (ax.axhline, ax.axhspan)
    chosen = points[points["default"].astype(bool)]
    for mean, margin in chosen[["mean", "margin"]].to_numpy(dtype=float)[:1]:
        if np.isfinite(margin):
            label = f"within {margin:g} of the default"
            band(mean - margin, mean + margin, color=GREEN, alpha=0.14, lw=0, label=label, zorder=0)
    chances = points["chance"].to_numpy(dtype=float)
    if np.isfinite(chances).any():
        line(np.nanmax(chances), color=TEXT, ls=":", lw=1.0, label="chance", zorder=1)
    for name, best in points[["recommender", "best"]].itertuples(index=False):
        if name:
            line(best, color=TEXT, ls="-.", lw=1.0, label=name, zorder=1)
            break
