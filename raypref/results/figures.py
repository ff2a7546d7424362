"""All figures of a sweep: each is a table and a way to draw it, and nothing but the collected results goes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from raypref.results.collect import Collection
from raypref.results.curve_families import family_alt, family_figure, family_table, keys_of_family
from raypref.results.curves import alt_text, curve_figure, curve_table, numeric, quality_and_cost
from raypref.results.labels import COSTS, symbol
from raypref.results.multi_objective import (
    FEWEST,
    importance_alt,
    importance_figure,
    importance_table,
    joint_alt,
    joint_table,
    objectives,
    parallel_figure,
    pareto_figure,
)
from raypref.results.plotting import figure_svg, save_figure
from raypref.storage.store import digest

CURVES = ("generated_hr@1", "valid_ratio", "exact_hr@1")
FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn."""

    name: str
    """Its files' name, without suffix."""
    heading: str
    table: pd.DataFrame
    """All that is drawn."""
    make: Callable[[pd.DataFrame, str], Figure]
    """From table and title to figure."""
    describe: Callable[[pd.DataFrame], str]
    """From table to alt text."""
    divided: bool = False
    """A panel for each metric, which a page shows as a picture of its own."""
    wide: bool = False
    """Too wide for a phone, where it is scrolled."""

    def save(self, folder: Path, title: str = "", formats: tuple[str, ...] = FORMATS) -> list[Path]:
        """The figure in every format, and its table as CSV."""
        paths = save_figure(lambda: self.make(self.table, title), folder / self.name, formats)
        table = folder / f"{self.name}.csv"
        self.table.to_csv(table, index=False)
        return [*paths, table]

    def svgs(self) -> list[str]:
        """For a page: one picture, or one for each metric."""
        parts = [self.table]
        if self.divided:
            parts = [self.table[self.table["metric"] == m] for m in dict.fromkeys(self.table["metric"])]
        return [
            figure_svg(
                lambda part=part: self.make(part, ""),  # type: ignore[misc]
                self.describe(part),
                digest([self.name, part.to_dict("list")]),
            )
            for part in parts
        ]


def drawings(collection: Collection) -> list[Drawing]:
    """The figures that there is something to show on."""
    made: list[Drawing] = []
    for key in collection.parameters:
        short, letter = key.rsplit(".", 1)[-1], symbol(key, collection.sweep)
        curve = curve_table(collection, key, CURVES)
        if curve.loc[~curve["sft"].astype(bool), "value"].nunique() > 1:
            heading = f"Curve over {letter}" if numeric(curve) else f"Scores by {letter}"
            made.append(Drawing(f"curve-{short}", heading, curve, curve_figure, alt_text, divided=True))
        cost = quality_and_cost(collection, key)
        if cost.loc[cost["metric"].isin(COSTS), "value"].nunique() > 1:
            heading = f"HR@1 and cost over {letter}" if numeric(cost) else f"HR@1 and cost by {letter}"
            made.append(Drawing(f"cost-{short}", heading, cost, curve_figure, alt_text, divided=True))
    if (keys := keys_of_family(collection)) is not None:
        table = family_table(collection, *keys)
        names = [symbol(key, collection.sweep) for key in keys]
        made.append(
            Drawing("family", f"HR@1 and cost over {names[0]}, by {names[1]}", table, family_figure, family_alt, True)
        )
    return made + _joint(collection)


def _joint(collection: Collection) -> list[Drawing]:
    varied = [key for key in collection.parameters if collection.done[key].nunique() > 1]
    table, metrics = joint_table(collection), objectives(collection)
    if len(varied) < 2 or len(table) < FEWEST or not metrics:
        return []
    made = []
    if len(metrics) > 1:
        made.append(
            Drawing(
                "pareto", "Pareto front", table, lambda t, title: pareto_figure(t, metrics, title),
                lambda t: joint_alt(t, metrics),
            )
        )  # fmt: skip
    importances = importance_table(collection)
    if len(importances):
        made.append(Drawing("importance", "What matters", importances, importance_figure, importance_alt, divided=True))
    symbols = [symbol(key, collection.sweep) for key in varied]
    made.append(
        Drawing(
            "parallel", "All settings", table.drop(columns=[key for key in collection.parameters if key not in varied]),
            lambda t, title: parallel_figure(t, varied, symbols, title), lambda t: joint_alt(t, metrics), wide=True,
        )
    )  # fmt: skip
    return made
