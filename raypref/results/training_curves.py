"""How each trial's training went, from its alignment's log: read, thinned, drawn small for a page and as a figure."""

from __future__ import annotations

import colorsys
import contextlib
import functools
import html
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raypref.results.collect import SFT, TRAINING, Collection
from raypref.results.labels import rows_of, setting_text
from raypref.results.lineage import stages
from raypref.storage.location import Location
from raypref.storage.store import write_atomic

SHOWN = {"loss": "loss", "reward_margin": "reward margin"}
DIAGNOSED = ("gamma", "slope", "effective_negatives", "gradient_share_1", "drift", "logp_pos")
"""Kept beside what is drawn: `raypref.results.diagnosis` reads them."""
COLUMNS = ["trial", "label", "setting", "metric", "step", "value"]
MOST_NAMED = 16  # settings in a legend
MOST_LINES = 500  # parsed of one log
MOST_POINTS, FEWEST_POINTS, ALL_POINTS = 80, 12, 24_000
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 230, 58, 34, 10  # small, so that a phone need not shrink its words
Scale = Callable[[Any], np.ndarray]


@functools.lru_cache(maxsize=4)
def training_table(collection: Collection) -> pd.DataFrame:
    """Thinned training curves: trial, label, setting, metric, step, value (mean of the steps it stands for).

    A trial without a log (failed, still running, its folder gone) has no rows; a last line cut short is left out.
    """
    if collection.training is not None:
        return collection.training
    if collection.root is None:
        return pd.DataFrame(columns=COLUMNS)
    trials = collection.trials[(collection.trials["trial"] != SFT) & (collection.trials["status"] != "superseded")]
    most = min(MOST_POINTS, max(FEWEST_POINTS, ALL_POINTS // max(1, len(trials))))
    rows: list[tuple[Any, ...]] = []
    for trial in rows_of(trials):
        log = _read(collection.root / trial["align"] / "metrics.jsonl") if trial["align"] else []
        setting = setting_text({key: trial[key] for key in collection.parameters}, collection.sweep)
        for metric in (*SHOWN, *DIAGNOSED):
            seen = [(line["step"], line[metric]) for line in log if _both_numbers(line, metric)]
            for part in np.array_split(np.array(seen, dtype=float), min(most, len(seen))) if seen else []:
                rows.append((trial["trial"], trial["label"], setting, metric, *part.mean(axis=0)))
    return pd.DataFrame(rows, columns=COLUMNS)


def sft_table(collection: Collection) -> pd.DataFrame:
    """The same of the SFT model that the trials begin with; empty where its log is gone."""
    address = collection.sweep.get("sft")
    if not address or collection.root is None:
        return pd.DataFrame(columns=COLUMNS)
    trained = stages(Location.of(collection.root), str(address)).get("sft")
    log = _read(collection.root / trained / "metrics.jsonl") if trained else []
    seen = np.array([(line["step"], line["loss"]) for line in log if _both_numbers(line, "loss")], dtype=float)
    parts = np.array_split(seen, min(MOST_POINTS, len(seen))) if len(seen) else []
    return pd.DataFrame([(SFT, "SFT", "SFT", "loss", *part.mean(axis=0)) for part in parts], columns=COLUMNS)


def _read(path: Location) -> list[dict[str, Any]]:
    """Lines of a log, evenly chosen from a long one."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:  # no log, or not yet: nothing to draw
        return []
    found = []
    for line in lines[:: math.ceil(len(lines) / MOST_LINES) or 1]:
        with contextlib.suppress(ValueError):  # cut short, as it is being written
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def _both_numbers(line: dict[str, Any], metric: str) -> bool:
    return all(isinstance(line.get(name), (int, float)) and math.isfinite(line[name]) for name in ("step", metric))


def training_svg(table: pd.DataFrame, metric: str) -> str:
    """All trials' curves of one metric as an `<svg>` element, coloured by setting; "" where there are none."""
    part = table[table["metric"] == metric]
    if part.empty:
        return ""
    x_ticks, x = _scale(part["step"], LEFT, WIDTH - 8)
    y_ticks, y = _scale(part["value"], HEIGHT - BOTTOM, TOP)
    colours = setting_colours(table)
    shown = [_axes(x_ticks, x, y_ticks, y, SHOWN[metric])]
    for (trial, label, setting), line in part.groupby(["trial", "label", "setting"], sort=False):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(line["step"]), y(line["value"])))
        shown.append(
            f'<polyline data-trial="{html.escape(str(trial))}" data-series="{html.escape(str(setting))}" '
            f'points="{points}" stroke="{colours[str(setting)]}">'
            f"<title>{html.escape(str(label))}</title></polyline>"
        )
    name = _said(part, metric)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    ends = [part["step"].min(), part["step"].max(), part["value"].min(), part["value"].max()]
    scale = ",".join(f"{number:g}" for number in (*x(ends[:2]), *y(ends[2:]), *ends))  # pixels, then what they mean
    axes = f'data-scale="{scale}" data-name="{html.escape(SHOWN[metric])}"'
    return f'<svg class="training" role="img" aria-label="{html.escape(name)}" {axes} {box}>{"".join(shown)}</svg>'


def write_training(collection: Collection, folder: Path) -> None:
    """`training.parquet`, so that these curves too can be drawn again without the trials' folders."""
    table = training_table(collection)
    write_atomic(folder / TRAINING, lambda path: table.to_parquet(path, index=False))


def training_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """A panel for each metric, a line a trial, coloured by setting."""
    metrics = list(dict.fromkeys(table["metric"]))
    colours = {
        name: colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)
        for name, (hue, saturation, lightness) in _spread(list(dict.fromkeys(table["setting"]))).items()
    }
    figure = Figure(figsize=(4.8 * len(metrics), 3.6), layout="constrained")
    for ax, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics):
        groups = table[table["metric"] == metric].groupby(["trial", "setting"], sort=False)
        lines = [(colours[str(setting)], line[["step", "value"]].to_numpy()) for (_, setting), line in groups]
        found = LineCollection([line for _, line in lines], colors=[c for c, _ in lines], linewidths=0.9, alpha=0.75)
        ax.add_collection(found)  # one for all: a thousand lines drawn apart take half a minute
        ax.autoscale_view()
        ax.set_xlabel("step")
        ax.set_ylabel(SHOWN[str(metric)])
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    if len(colours) <= MOST_NAMED:
        handles = [Line2D([], [], color=colour) for colour in colours.values()]
        figure.legend(handles, list(colours), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def training_alt(table: pd.DataFrame) -> str:
    return "; ".join(_said(table[table["metric"] == metric], str(metric)) for metric in dict.fromkeys(table["metric"]))


def _said(part: pd.DataFrame, metric: str) -> str:
    return f"{SHOWN[metric]} of {part['trial'].nunique()} trials over the steps of their training"


def setting_colours(table: pd.DataFrame) -> dict[str, str]:
    """A colour for each setting, from blue to red in their order, of a lightness that light and dark pages bear."""
    spread = _spread(list(dict.fromkeys(table["setting"])))
    return {name: f"hsl({hue} {saturation}% {lightness}%)" for name, (hue, saturation, lightness) in spread.items()}


def _spread(names: list[str]) -> dict[str, tuple[int, int, int]]:
    """Hue in degrees, saturation and lightness in percent."""
    return {name: ((215 + 165 * i // max(1, len(names) - 1)) % 360, 65, 52) for i, name in enumerate(names)}


def _scale(values: pd.Series, start: float, end: float) -> tuple[list[float], Scale]:
    """Ticks, and the map from values to places."""
    low, high = float(values.min()), float(values.max())
    if math.isclose(low, high):
        low, high = low - 0.5, high + 0.5
    ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return ticks, lambda v: start + (np.asarray(v, dtype=float) - low) / (high - low) * (end - start)


def _axes(x_ticks: list[float], x: Scale, y_ticks: list[float], y: Scale, name: str) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT},{TOP}V{floor}H{WIDTH - 8}"/>']
    for tick in y_ticks:
        at = f"{float(y(tick)):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT},{at}H{WIDTH - 8}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at}" text-anchor="end" dominant-baseline="middle">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{float(x(tick)):.1f}" y="{floor + 14}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    middle = (TOP + floor) / 2
    parts.append(f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{name}</text>')
    return "".join(parts)
