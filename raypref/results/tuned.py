"""What tuning tried of each method of a study, and what it chose: a table, and a figure over the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from raypref.results.labels import metric_label, setting_text
from raypref.results.plotting import BLUE, GREY
from raypref.results.render import Cells

MEASURE = "exact_hr@1"
"""What a setting is chosen by, on the validation split."""
UNTUNED = "-untuned"
"""What the row of a method at the base config's own setting is called, behind its name."""


@dataclass(frozen=True)
class Tried:
    """One setting of one method."""

    method: str
    setting: Mapping[str, Any]
    """The tuned keys with their values."""
    early: Mapping[str, Any]
    """What stops its training early."""
    value: float | None
    """`MEASURE` on validation; None: it could not be trained."""
    first: bool
    """Whether it is the base config's own setting."""


def best(tried: Iterable[Tried]) -> dict[str, Tried]:
    """Of each method the setting that is best on validation; of several the one tried first."""
    found: dict[str, Tried] = {}
    for each in tried:
        before = found.get(each.method)
        if each.value is not None and (before is None or before.value is None or each.value > before.value):
            found[each.method] = each
    return found


def chosen_settings(tried: Iterable[Tried]) -> dict[str, dict[str, Any]]:
    """The config changes that tuning asks for, by method."""
    return {name: {**each.setting, **each.early} for name, each in best(tried).items()}


def read_tried(sweep: Mapping[str, Any]) -> list[Tried]:
    """What a sweep's account keeps of its tuning; empty where there was none."""
    return [Tried(**row) for row in sweep.get("tuning", ())]


def tuning_table(tried: list[Tried]) -> pd.DataFrame:
    """Every setting that was tried, with its score on validation, and whether it is the first and the chosen one."""
    chosen = best(tried)
    rows = [
        {"method": each.method, "setting": setting_text(each.setting), f"validation_{MEASURE}": each.value,
         "first": each.first, "chosen": chosen.get(each.method) is each}
        for each in tried
    ]  # fmt: skip
    return pd.DataFrame(rows)


def tuning_cells(tried: list[Tried]) -> Cells:
    """A row a method: how many settings were tried, validation at the first and at the chosen one, and what that is."""
    chosen = best(tried)
    rows = []
    for name, one in chosen.items():
        own = [each for each in tried if each.method == name]
        values = [each.value for each in own if each.value is not None]
        first = next((each.value for each in own if each.first), None)
        texts = [name, setting_text(one.setting), str(len(own))]
        texts += ["-" if value is None else f"{value:.3f}" for value in (min(values), first, one.value)]
        rows.append([(text, False) for text in texts])
    label = f"validation {metric_label(MEASURE)}"
    header = ["method", "chosen", "tried", f"{label}: worst", "first", "best"]
    told = (
        "Each method was tried at as many settings, with seed 0: first the preset's own, then the same learning rates "
        "and lengths for all. Of a training the weights of its best validation HR@1 are kept. What was chosen flatters "
        "itself on validation: the test set decides. NAME-untuned is the preset's own setting."
    )
    return Cells("Tuning", header, rows, [told], names=2)


def tuning_figure(tried: list[Tried]) -> Figure:
    """Validation over the learning rate, a panel a method: all settings (grey), the first (ring), the chosen (blue)."""
    chosen = best(tried)
    columns = min(4, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * lines + 0.4), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for ax, (name, one) in zip(axes, chosen.items()):
        own = [each for each in tried if each.method == name and each.value is not None]
        at = [_learning_rate(each) for each in own]
        ax.plot(at, [each.value for each in own], "o", color=GREY, markersize=4)
        ax.plot([a for a, e in zip(at, own) if e.first], [e.value for e in own if e.first], "o", markersize=8,
                markerfacecolor="none", color=GREY)  # fmt: skip
        ax.plot([_learning_rate(one)], [one.value], "o", color=BLUE, markersize=6)
        ax.set_xscale("log")
        ax.set_title(name, fontsize=9)
        ax.tick_params(labelsize=7)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel(f"validation {metric_label(MEASURE)}", fontsize=9)
    return figure


def _learning_rate(tried: Tried) -> float:
    return next((float(value) for key, value in tried.setting.items() if key.endswith("learning_rate")), float("nan"))
