"""From the sampled candidates to the whole catalog: does the order of methods survive the step?

A metric on sampled candidates need not rank systems as it does on all items (Krichene & Rendle 2020), so each table
that has both says how far the two orders agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raypref.results.collect import Collection
from raypref.results.labels import metric_label
from raypref.results.statistics import bootstrap_means
from raypref.results.summaries import matrix, settings

STEPS = {"exact_ndcg@5": "catalog_ndcg@5", "exact_hr@1": "catalog_hr@1", "exact_hr@5": "catalog_hr@5"}
"""Of each metric on the candidates the same one over all items; the first is the one that an answer speaks of."""
NAMED = 4  # pairs of methods that change places, at most


@dataclass(frozen=True)
class Order:
    """How two protocols order the same systems by the same metric."""

    sampled: str
    """The metric on the candidates; `whole`: over all items."""
    whole: str
    systems: list[str]
    tau: float
    low: float
    """95 % over users, percentile bootstrap; the same users in both protocols."""
    high: float
    users: int
    swapped: list[tuple[str, str]]
    """Pairs of which the first is better on the candidates and the second over all items."""

    def said(self) -> str:
        """In a sentence."""
        text = (
            f"From the candidates to the whole catalog, by {metric_label(self.sampled).removeprefix('exact ')}: "
            f"Kendall's tau of the order of {len(self.systems)} is {self.tau:.2f} [{self.low:.2f}, {self.high:.2f}] "
            "(95 % over users)"
        )
        if self.tau != self.tau:
            return f"{text}: one of the two protocols tells none from another."
        if not self.swapped:
            return f"{text}; none change places."
        named = ", ".join(f"{a} and {b}" for a, b in self.swapped[:NAMED])
        more = f" and {len(self.swapped) - NAMED} more pairs" if len(self.swapped) > NAMED else ""
        return f"{text}; places change between {named}{more}."


def kendall_tau(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) Kendall's tau-b of the columns of `first` and `second` (n, k), row by row (Kendall 1945): concordant less
    discordant pairs, over `sqrt` of the pairs untied in one times those untied in the other.

    Edge cases: all tied in either, or k < 2: NaN.
    """
    a, b = (np.sign(x[:, :, None] - x[:, None]) for x in (np.atleast_2d(first), np.atleast_2d(second)))
    untied = np.sqrt((a != 0).sum(axis=(1, 2)) * (b != 0).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore"):
        tau: np.ndarray = (a * b).sum(axis=(1, 2)) / untied
    return tau


def orders(collection: Collection) -> list[Order]:
    """The order of a sweep's settings by each metric that both protocols have; means over seeds, of the users that all
    have. Settings without one of the two (a chat model) are left out; fewer than two leave nothing to order.
    """
    split = collection.reported
    pairs = [step for step in STEPS.items() if all(collection.has(metric, split) for metric in step)]
    return [order for step in pairs if (order := _order(collection, split, *step)) is not None]


def _order(collection: Collection, split: str, sampled: str, whole: str) -> Order | None:
    tables = [matrix(collection, metric, split) for metric in (sampled, whole)]
    names, values = [], []
    for setting in settings(collection):
        both = [table.loc[table.index.intersection(setting.ids)] for table in tables]
        if all(len(part) and part.notna().any(axis=None) for part in both):
            names.append(setting.text)
            values.append([part.mean(axis=0).to_numpy() for part in both])
    if len(names) < 2:
        return None
    array = np.array(values).transpose(1, 0, 2)  # (protocol, system, example)
    there = np.isfinite(array).all(axis=(0, 1))
    array, owners = array[:, :, there], tables[0].columns.get_level_values("user").to_numpy()[there]
    if not array.shape[2]:
        return None
    first, second = array.mean(axis=2)
    drawn = bootstrap_means(array.reshape(2 * len(names), -1), None if len(set(owners)) == len(owners) else owners)
    taus = kendall_tau(drawn[:, : len(names)], drawn[:, len(names) :])
    seen = taus[np.isfinite(taus)]
    low, high = np.quantile(seen, [0.025, 0.975]) if len(seen) else (np.nan, np.nan)
    tau = float(kendall_tau(first[None], second[None])[0])
    return Order(sampled, whole, names, tau, float(low), float(high), len(set(owners)), _swapped(names, first, second))


def _swapped(names: Sequence[str], first: np.ndarray, second: np.ndarray) -> list[tuple[str, str]]:
    found = []
    for a, b in itertools.combinations(range(len(names)), 2):
        if (first[a] - first[b]) * (second[a] - second[b]) < 0:
            found.append((names[a], names[b]) if first[a] > first[b] else (names[b], names[a]))
    return found
