"""Could what was swept act at all? Each alignment's log, judged at its end, in a table and in words."""

from __future__ import annotations

import functools
import math
from typing import Any

import pandas as pd

from raypref.results.collect import Collection
from raypref.results.labels import rows_of, symbol
from raypref.results.training_curves import training_table

MARGIN_KEYS = ("lambda", "margin", "alpha", "margin_sign", "margin_scope", "default_score", "default_latency", "gamma0")
"""Config keys that say how much the preferred title must win by."""
LINEAR = 0.9
"""Mean slope from which a logistic loss counts as linear."""
REACHED = 0.25
"""Less of the margin asked for than this, and how much was asked made no difference to how far training came."""
UNMOVED_MARGIN, UNMOVED_DRIFT = 0.1, 0.01
ASKED = 1.0
"""Nats of handicap from which a setting asks for something."""
COLUMNS = {
    "asked": "margin asked (nats)",
    "reached": "margin reached (nats)",
    "slope": "mean slope of the loss",
    "effective": "negatives that count",
    "first_share": "share of the hardest negative",
    "drift": "drift (nats a token)",
    "preferred": "preferred title's log-prob, end less start",
}
"""Of `diagnosis_table`, and what people call them."""


@functools.lru_cache(maxsize=4)
def diagnosis_table(collection: Collection) -> pd.DataFrame:
    """A row a setting, means over its seeds of the last fifth of training: setting and COLUMNS; NaN where not logged.

    Logs of before the slope was logged tell it where the loss is list-wise: `1 - e^-loss`.
    """
    log = training_table(collection)
    rows = []
    for setting, part in log.groupby("setting", sort=False):
        ends = [_ends(trial) for _, trial in part.groupby("trial", sort=False)]
        rows.append({"setting": setting, **{name: _mean([end[name] for end in ends]) for name in COLUMNS}})
    return pd.DataFrame(rows, columns=["setting", *COLUMNS])


def _mean(values: list[float]) -> float:
    seen = [value for value in values if not math.isnan(value)]
    return sum(seen) / len(seen) if seen else math.nan


def _ends(trial: pd.DataFrame) -> dict[str, float]:
    """The last fifth's means of one trial's curves."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for metric, curve in trial.groupby("metric", sort=False):
        values = curve.sort_values("step")["value"].to_numpy(dtype=float)
        part = max(1, len(values) // 5)
        first[str(metric)], last[str(metric)] = float(values[:part].mean()), float(values[-part:].mean())
    slope = last.get("slope", math.nan)
    if math.isnan(slope) and "effective_negatives" in last and "loss" in last:
        slope = 1 - math.exp(-last["loss"])
    names = {"asked": "gamma", "reached": "reward_margin", "effective": "effective_negatives", "drift": "drift"}
    found = {name: last.get(metric, math.nan) for name, metric in names.items()}
    preferred = last.get("logp_pos", math.nan) - first.get("logp_pos", math.nan)
    return found | {"slope": slope, "first_share": last.get("gradient_share_1", math.nan), "preferred": preferred}


def diagnosis(collection: Collection) -> list[str]:
    """What the logs say of the swept keys, a sentence each; empty where nothing was aligned or logged."""
    table = diagnosis_table(collection)
    if not table["reached"].notna().any():
        return []
    said = [_of_key(collection, key, table) for key in collection.parameters if key.startswith("align.")]
    return [*filter(None, said), *_of_preferred(table)]


def _of_key(collection: Collection, key: str, table: pd.DataFrame) -> str:
    name, letter = key.rsplit(".", 1)[-1], symbol(key, collection.sweep)
    furthest, drift = table["reached"].abs().max(), table["drift"].max()
    if furthest < UNMOVED_MARGIN and not drift >= UNMOVED_DRIFT:
        return (
            f"{letter} could not act: alignment hardly moved the model (rewards differ by {furthest:.2g} nats at its "
            f"end), so that no setting of it could differ. {HOW}"
        )
    asking = table[table["asked"] >= ASKED]
    if name not in MARGIN_KEYS or asking.empty:
        return ""
    shares = asking["reached"] / asking["asked"]
    most = rows_of(asking.sort_values("asked"))[-1]
    numbers = f"at {most['setting']} the loss asks for a margin of {most['asked']:.1f} nats, and rewards differ by "
    numbers += f"{most['reached']:.1f} at the end of training"
    if (shares < REACHED).all() and (asking["slope"] > LINEAR).all():
        return (
            f"{letter} could not act: {numbers}. So far from what it asks for the loss is a straight line (mean slope "
            f"{most['slope']:.2f} of 1), which pulls as hard whatever {letter} is. {HOW}"
        )
    return f"{letter} could act: {numbers}."


HOW = "Train longer (--align.max-steps), or raise --align.learning-rate, and look again."


def _of_preferred(table: pd.DataFrame) -> list[str]:
    """Whether the preferred titles became less likely, where that was logged."""
    worst = table[table["preferred"] == table["preferred"].min()]
    row: dict[str, Any] = rows_of(worst)[0] if len(worst) else {"preferred": 0.0}
    if not row["preferred"] < -0.5:
        return []
    fell = f"{row['preferred']:+.1f} nats at {row['setting']}"
    said = f"The preferred titles themselves became less likely ({fell}): the model unlearns the others faster than it "
    return [said + "learns these (a known failure of DPO), and may answer with neither."]
