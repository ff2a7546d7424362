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
from raypref.results.paired import difference_spread, paired_difference
from raypref.results.statistics import Test, holm, mcnemar, seed_interval, user_intervals, wilcoxon
from raypref.results.verdicts import BETTER, MARGIN, WORSE, verdicts

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
    found = pd.DataFrame(rows, columns=[*columns, "low_users", "high_users", "points", "point_seeds", "note"])
    return found.astype({"default": bool, "sft": bool})  # of no rows too: a mask of objects would choose columns


def comparisons(collection: Collection, metric: str, split: str, reference: Setting) -> pd.DataFrame:
    """A row for each other setting: its difference to `reference`, tested, Holm-corrected over the rows.

    Where any setting has two seeds, `p` speaks for other seeds and other users: of the paired test where two settings
    have seeds in common and these were measured to move both alike, else of the crossed one. In a sweep with one seed
    it is McNemar's for hits and Wilcoxon's for graded values, and speaks for those very models alone.

    Columns: setting, difference, low, high, p, p_holm, significant, verdict (of the setting against the reference; see
    `raypref.results.verdicts`), effect, seeds, users, test, note, error, freedom. Of a sweep that was decided in rounds
    (`--decide`), the verdicts of its headline metric against its default setting are those of the rounds.
    """
    by_user = user_matrix(collection, metric, split)
    found = settings(collection)
    values = {s.text: by_seed(by_user, s) for s in [*found, reference]}
    seeded = [values[s.text] for s in found if len(values[s.text])]
    spread, paired = seed_spread(v.to_numpy() for v in seeded), difference_spread(seeded)
    if spread is not None and paired is not None and paired.variance >= 2 * spread.variance:
        paired = None  # to pair them would not help
    rows, tests = [], []
    for setting in (s for s in found if s.params != reference.params):
        given = setting.fixed, reference.fixed
        test, name = _compared(values[setting.text], values[reference.text], spread, paired, given)
        tests.append(test)
        numbers = {key: getattr(test, key) for key in ("difference", "low", "high", "p", "effect", "error", "freedom")}
        counts = {"seeds": len(values[setting.text]), "users": test.n, "test": name, "note": test.note}
        rows.append({"setting": setting.text, **numbers, **counts})
    columns = ["setting", "difference", "low", "high", "p", "effect", "seeds", "users", "test", "note"]
    table = pd.DataFrame(rows, columns=[*columns, "error", "freedom"])
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    table["verdict"] = verdicts(tests, margin_of(collection))
    decided = _decided(collection, metric, split, reference)
    table["verdict"] = [decided.get(text, word) for text, word in zip(table["setting"], table["verdict"])]
    table["significant"] = table["verdict"].isin([BETTER, WORSE])
    return table


def user_matrix(collection: Collection, metric: str, *splits: str) -> pd.DataFrame:
    """`matrix` with one column a user: several examples of one, of all `splits`, count as one, their mean."""
    by_user = pd.concat([matrix(collection, metric, split) for split in splits], axis=1)
    if len(by_user) and not by_user.columns.get_level_values("user").is_unique:
        return by_user.T.groupby(level="user").mean().T
    return by_user


def margin_of(collection: Collection) -> float:
    """The margin of equivalence that the sweep was asked for."""
    return float(collection.sweep.get("equivalent") or MARGIN)


def _decided(collection: Collection, metric: str, split: str, reference: Setting) -> dict[str, str]:
    """The verdicts of a sweep that was decided in rounds, by setting, where they are of this very comparison."""
    rounds = collection.sweep.get("decided")
    if not isinstance(rounds, dict) or (rounds["metric"], rounds["split"]) != (metric, split) or not reference.default:
        return {}
    return {row["setting"]: row["verdict"] for row in rounds["comparisons"]}


def by_seed(by_user: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """(seeds, users) of a setting; the SFT model, which has no seeds, is its own."""
    kept = {trial: seed for seed, trial in (setting.trials or {0: SFT}).items() if trial in by_user.index}
    return by_user.loc[list(kept)].set_axis(list(kept.values()), axis=0)


def _compared(
    first: pd.DataFrame,
    second: pd.DataFrame,
    spread: SeedSpread | None,
    paired: SeedSpread | None,
    fixed: tuple[bool, bool],
) -> tuple[Test, str]:
    """The test of a setting's values (seeds, users) against the reference's, and its name."""
    if not len(first) or not len(second):
        return Test(math.nan, math.nan, math.nan, math.nan, math.nan, 0, "one of the two has no results"), "none"
    seeds = first.index.intersection(second.index)
    a, b = first.to_numpy(dtype=float), second.to_numpy(dtype=float)
    if paired is not None and not any(fixed) and len(seeds) > 1 and len(seeds) == min(len(a), len(b)):
        return paired_difference((first.loc[seeds] - second.loc[seeds]).to_numpy(dtype=float), paired), "paired"
    if spread is not None:
        return crossed_test(a, b, spread, fixed=fixed[1], first_fixed=fixed[0]), "crossed"
    both = np.isfinite(a[0]) & np.isfinite(b[0])
    one, two = a[0, both], b[0, both]
    if np.isin(one, (0, 1)).all() and np.isin(two, (0, 1)).all():
        return mcnemar(one, two), "McNemar"
    return wilcoxon(one, two), "Wilcoxon"
