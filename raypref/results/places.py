"""Does an answer follow the item or its place? The table and sentence of sweeps evaluated in several orders."""

from __future__ import annotations

from typing import Any

import pandas as pd

from raypref.evaluation.order_metrics import FIFTHS
from raypref.results.collect import Collection
from raypref.results.labels import rows_of
from raypref.results.summaries import summary

GAP = "place_gap"
PLACES_HEADER = [
    "setting", *(f"fifth {k}" for k in range(1, FIFTHS + 1)), "first half less second", "same item", "same place",
    "all orders as one",
]  # fmt: skip
METRICS = (*(f"place_{k}_hr@1" for k in range(1, FIFTHS + 1)), GAP, "follows_item", "follows_place", "orders_hr@1")


def place_table(collection: Collection) -> pd.DataFrame:
    """A row a setting, SFT last: of each of METRICS mean, low and high (95 % over users, of the mean over seeds)."""
    split, table = collection.reported, pd.DataFrame()
    if not collection.has(GAP, split):
        return table
    for metric in METRICS:
        found = summary(collection, metric, split)[["setting", "mean", "low_users", "high_users"]]
        found = found.set_axis(["setting", metric, f"{metric}_low", f"{metric}_high"], axis=1)
        table = found if table.empty else table.merge(found, on="setting", how="left")
    return table


def place_rows(collection: Collection) -> list[list[str]]:
    """The table as text."""
    return [[row["setting"], *(_cell(row, metric) for metric in METRICS)] for row in rows_of(place_table(collection))]


def _cell(row: dict[str, Any], metric: str) -> str:
    form = "+.3f" if metric == GAP else ".3f"
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return f"{row[metric]:{form}} [{low:{form}}, {high:{form}}]"


def places_said(collection: Collection) -> str:
    """A sentence on the setting that its place moves most; empty where one order was ranked."""
    table = place_table(collection)
    if table.empty:
        return ""
    sure = table[(table[f"{GAP}_low"] > 0) | (table[f"{GAP}_high"] < 0)]
    if sure.empty:
        return "No setting's answers depend measurably on where the target stands in the list."
    row = rows_of(sure.reindex(sure[GAP].abs().sort_values(ascending=False).index))[0]
    where = "first" if row[GAP] > 0 else "second"
    said = (
        f"Place matters in {len(sure)} of {len(table)} models: at {row['setting']} a target in the list's {where} half "
    )
    said += f"is found {abs(row[GAP]):.3f} more often ({_cell(row, GAP)}). "
    return said + f"With all orders as one ranking its HR@1 is {row['orders_hr@1']:.3f}."
