"""Trials grouped by setting (their seeds are repetitions): means, intervals, and comparisons of settings."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raypref.results.collect import SFT, Collection
from raypref.results.crossed import SeedSpread, crossed_test, seed_spread
from raypref.results.labels import confined, same, setting_text
from raypref.results.statistics import (
    Test,
    holm,
    mcnemar,
    seed_interval,
    user_intervals,
    wilcoxon,
)

LEVEL = 0.05
EXAMPLE = ["example", "user", "target_item"]


@dataclass(frozen=True)
class Setting:
    """One point of the space."""

    params: dict[str, Any]
    trials: dict[int, str]
    """Trial id by seed; empty for SFT, which has one model and no seeds."""
    default: bool
    text: str
    fixed: bool = False
    """No seed would have changed it: one given model."""

    @property
    def sft(self) -> bool:
        return not self.params

    @property
    def ids(self) -> list[str]:
        return [SFT] if self.sft else list(self.trials.values())


def settings(collection: Collection) -> list[Setting]:
    """The settings with a usable trial, in the order of their values."""
    keys, made = collection.parameters, []
    for values, group in collection.done.groupby(keys, sort=False, dropna=False):
        params = dict(zip(keys, values))
        ids = dict(sorted(zip(group["seed"].tolist(), group["trial"].tolist())))
        text = setting_text(params, collection.sweep)
        made.append(Setting(params, ids, is_default(collection, params), text, _is_fixed(collection, params)))
    return made


def sft_setting(collection: Collection) -> Setting | None:
    """The SFT model as a setting, None if it has no results."""
    found = collection.trials[(collection.trials["trial"] == SFT) & (collection.trials["status"] == "done")]
    return Setting({}, {}, False, "SFT", fixed=True) if len(found) else None


def is_default(collection: Collection, params: Mapping[str, Any]) -> bool:
    default = collection.sweep.get("default")
    return isinstance(default, dict) and all(k in default and same(v, default[k]) for k, v in params.items())


def _is_fixed(collection: Collection, params: Mapping[str, Any]) -> bool:
    known = collection.sweep.get("fixed")
    return isinstance(known, dict) and any(params.get(key) in values for key, values in known.items())


@functools.lru_cache(maxsize=16)
def matrix(collection: Collection, metric: str, split: str) -> pd.DataFrame:
    """Every user's value under every trial: trials down, examples (example, user, target_item) across.

    NaN where a trial has no such example, or no such metric.
    """
    users = collection.users
    if metric not in users.column_names:
        return pd.DataFrame()
    frame = users.select(["trial", "split", *EXAMPLE, metric]).to_pandas()
    frame = frame[(frame["split"] == split).to_numpy()]
    if frame.empty:
        return pd.DataFrame()
    groups = frame.groupby(EXAMPLE, sort=True)
    column, keys = groups.ngroup().to_numpy(), pd.MultiIndex.from_tuples(list(groups.groups), names=EXAMPLE)
    row, trials = pd.factorize(frame["trial"].astype(str))
    values = np.full((len(trials), len(keys)), np.nan)
    values[row, column] = frame[metric].to_numpy()
    return pd.DataFrame(values, index=trials, columns=keys)


@functools.lru_cache(maxsize=32)
def summary(collection: Collection, metric: str, split: str) -> pd.DataFrame:
    """A row a setting, SFT last: mean over seeds, 95 % intervals over seeds and over users, each seed's value.

    Columns: setting (text), a column for each swept key, default, sft, seeds, mean, low, high (over seeds; NaN with
    one), low_users, high_users (of the mean over these seeds' models), points, point_seeds, note.
    """
    by_user = matrix(collection, metric, split)
    rows, averages = [], []
    for setting in [*settings(collection), *filter(None, [sft_setting(collection)])]:
        kept = [trial for trial in setting.ids if trial in by_user.index and by_user.loc[trial].notna().any()]
        if not kept:
            continue
        values = by_user.loc[kept]
        points = values.mean(axis=1).to_numpy()
        seeds = seed_interval(points)
        low, high = confined(metric, seeds.low, seeds.high)
        note = "one model: its interval is over users" if setting.sft else seeds.note
        described = {"setting": setting.text, **{key: setting.params.get(key) for key in collection.parameters}}
        described |= {"default": setting.default, "sft": setting.sft, "seeds": len(kept), "mean": seeds.mean}
        point_seeds = [seed for seed, trial in setting.trials.items() if trial in kept]
        rows.append(
            described | {"low": low, "high": high, "points": points.tolist(), "point_seeds": point_seeds, "note": note}
        )
        averages.append(values.mean(axis=0).to_numpy())
    owners = by_user.columns.get_level_values("user") if rows else pd.Index([])
    intervals = user_intervals(np.array(averages), None if owners.is_unique else owners.to_numpy()) if rows else []
    for row, users in zip(rows, intervals):
        row |= {"low_users": users.low, "high_users": users.high}
    columns = ["setting", *collection.parameters, "default", "sft", "seeds", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "low_users", "high_users", "points", "point_seeds", "note"])


def comparisons(collection: Collection, metric: str, split: str, reference: Setting) -> pd.DataFrame:
    """A row for each other setting: its difference to `reference`, tested, Holm-corrected over the rows.

    Where any setting has two seeds, `p` is of the crossed test, which speaks for other seeds and other users. In a
    sweep with one seed it is McNemar's for hits and Wilcoxon's for graded values, and speaks for those very models
    alone.

    Columns: setting, difference, low, high, p, p_holm, significant, effect, seeds, users, test, note.
    """
    by_user = matrix(collection, metric, split)
    if len(by_user) and not by_user.columns.get_level_values("user").is_unique:
        by_user = by_user.T.groupby(level="user").mean().T  # several examples of a user count as one: their mean
    found = settings(collection)
    values = {s.text: by_user.loc[by_user.index.intersection(s.ids)].to_numpy() for s in [*found, reference]}
    spread = seed_spread(values[setting.text] for setting in found if len(values[setting.text]))
    rows = []
    for setting in found:
        if setting.params == reference.params:
            continue
        first, second = values[setting.text], values[reference.text]
        test, name = _compared(first, second, spread, reference.fixed, setting.fixed)
        numbers = {
            "difference": test.difference,
            "low": test.low,
            "high": test.high,
            "p": test.p,
            "effect": test.effect,
        }
        counts = {"seeds": len(first), "users": test.n, "test": name, "note": test.note}
        rows.append({"setting": setting.text, **numbers, **counts})
    columns = ["setting", "difference", "low", "high", "p", "effect", "seeds", "users", "test", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    table["significant"] = table["p_holm"] < LEVEL
    return table


def _compared(
    first: np.ndarray, second: np.ndarray, spread: SeedSpread | None, fixed: bool, first_fixed: bool
) -> tuple[Test, str]:
    """The test of a setting's values (seeds, users) against the reference's, and its name."""
    if not len(first) or not len(second):
        return Test(math.nan, math.nan, math.nan, math.nan, math.nan, 0, "one of the two has no results"), "none"
    if spread is not None:
        return crossed_test(first, second, spread, fixed, first_fixed), "crossed"
    both = np.isfinite(first[0]) & np.isfinite(second[0])
    one, two = first[0, both], second[0, both]
    if np.isin(one, (0, 1)).all() and np.isin(two, (0, 1)).all():
        return mcnemar(one, two), "McNemar"
    return wilcoxon(one, two), "Wilcoxon"
