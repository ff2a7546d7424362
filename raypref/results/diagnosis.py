"""Could what was swept act at all? Each alignment's log, judged at its end, in a table and in words."""

from __future__ import annotations

import functools
import math
from typing import Any

import pandas as pd

from raypref.results.collect import Collection
from raypref.results.labels import rows_of, symbol
from raypref.results.training_curves import training_table

ALIGN = "align."
MARGIN_KEYS = ("lambda", "margin", "alpha", "margin_sign", "margin_scope", "default_score", "default_latency", "gamma0")
"""Config keys that say how much the preferred title must win by."""
LINEAR = 0.9
"""Mean slope from which a logistic loss counts as linear."""
REACHED = 0.25
"""Less of the margin asked for than this, and how much was asked made no difference to how far training came."""
UNMOVED_MARGIN, UNMOVED_DRIFT = 0.1, 0.01
FASTEST = 1e-3
"""No advice is to learn faster than this."""
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
    said = [_of_key(collection, key, table) for key in collection.parameters]
    return [*filter(None, said), *_of_preferred(table)]


def without_effect(collection: Collection) -> list[str]:
    """The symbols of the swept keys that could not act."""
    table = diagnosis_table(collection)
    return [
        symbol(key, collection.sweep)
        for key in collection.parameters
        if key.startswith(ALIGN) and (_unmoved(table) or (_is_margin(key) and _linear(table)))
    ]


def _of_key(collection: Collection, key: str, table: pd.DataFrame) -> str:
    if not key.startswith(ALIGN):
        return ""
    letter = symbol(key, collection.sweep)
    if _unmoved(table):
        return (
            f"{letter} could not act: alignment hardly moved the model (at its end the preferred title leads by "
            f"{table['reached'].abs().max():.2g} nats of reward), so that all settings are nearly one model, and a "
            f"flat curve says nothing of {letter}. {_how(collection)}"
        )
    asking = table[table["asked"] >= ASKED]
    if not _is_margin(key) or asking.empty:
        return ""
    most = rows_of(asking.sort_values("asked"))[-1]
    numbers = (
        f"at {most['setting']} the loss asks that the preferred title lead the others by {most['asked']:.1f} nats of "
        f"reward (log-probability gained, times β), and training came to {most['reached']:.1f}"
    )
    if _linear(table):
        return (
            f"{letter} could not act: {numbers}. So far from what it asks for the loss is a straight line (mean slope "
            f"{most['slope']:.2f} of 1): it pulls as hard whatever {letter} is, and a flat curve says nothing of "
            f"{letter}. {_how(collection)}"
        )
    return f"{letter} could act: {numbers}."


def _unmoved(table: pd.DataFrame) -> bool:
    """Whether alignment left the model where it was."""
    return bool(table["reached"].abs().max() < UNMOVED_MARGIN and not table["drift"].max() >= UNMOVED_DRIFT)


def _is_margin(key: str) -> bool:
    return key.rsplit(".", 1)[-1] in MARGIN_KEYS


def _linear(table: pd.DataFrame) -> bool:
    """Whether every setting that asks for a margin stayed where the loss is a straight line."""
    asking = table[table["asked"] >= ASKED]
    far = (asking["reached"] / asking["asked"] < REACHED) & (asking["slope"] > LINEAR)
    return len(asking) > 0 and bool(far.all())


def _how(collection: Collection) -> str:
    """What to do, with what was done."""
    align = collection.sweep.get("config", {}).get("align", {})
    steps, rate = align.get("max_steps"), align.get("learning_rate")
    if not steps or not rate:
        return "Train longer (--align.max-steps), or raise --align.learning-rate, and look again."
    faster = max(rate, min(10 * rate, FASTEST))
    return (
        f"It was trained {steps} steps at {rate:g}: train longer{' and faster' if faster > rate else ''}, say "
        f"--align.max-steps {2 * steps} --align.learning-rate {faster:g}, and look again."
    )


def _of_preferred(table: pd.DataFrame) -> list[str]:
    """Whether the preferred titles became less likely, where that was logged."""
    worst = table[table["preferred"] == table["preferred"].min()]
    row: dict[str, Any] = rows_of(worst)[0] if len(worst) else {"preferred": 0.0}
    if not row["preferred"] < -0.5:
        return []
    fell = f"by {-row['preferred']:.1f} nats at {row['setting']}"
    said = f"The preferred titles themselves became less likely in training ({fell}): the model unlearns the others "
    return [said + "faster than it learns these (a known failure of DPO), and may answer with neither."]
