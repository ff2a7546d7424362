"""What a sweep can find, before it runs: the smallest difference that its users and seeds resolve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

POWER, LEVEL = 0.8, 0.05
FILE = "spread.json"
MOST = 10_000_000


@dataclass(frozen=True)
class Spread:
    """How much the difference of two settings of a sweep varies, per user and per seed."""

    lasting: float
    """Variance over users of what a setting does to a user whatever the seed."""
    passing: float
    """Variance over users of what it does with one seed."""
    seeds: float
    """Variance over seeds of the difference's mean over all users there could be."""
    freedom: float = math.inf
    """Degrees of freedom that this was learned with; infinite: it was assumed."""
    source: str = "assumed from the seven sweeps of docs/results.md (MovieLens 100K)"
    """Where it is from, for people."""

    def error(self, users: float, seeds: float) -> float:
        """Standard error of the difference's mean."""
        return math.sqrt((self.lasting + self.passing / seeds) / users + self.seeds / seeds)


ASSUMED = Spread(lasting=0.003, passing=0.012, seeds=1e-6)
"""Of HR@1 of two settings of one objective that share their seeds."""


def smallest_difference(error: float, freedom: float, comparisons: int = 1, power: float = POWER) -> float:
    """The difference that is found with a chance of `power`: `(t_{1 - a / 2m} + t_power) error` (Cohen 1988, 2.4).

    `m` comparisons share the level a = 0.05 (Holm's first step, so the prediction is the careful one).
    """
    from scipy.special import stdtrit  # a quarter of a second, which only a plan with seeds needs

    return float(stdtrit(freedom, 1 - LEVEL / (2 * comparisons)) + stdtrit(freedom, power)) * error


def resolved(spread: Spread, users: int, seeds: int, settings: int) -> float:
    """The smallest difference to the default that a sweep of so many settings resolves; infinite with one seed."""
    freedom = (settings - 1) * (seeds - 1)
    if freedom < 1:
        return math.inf
    return smallest_difference(spread.error(users, seeds), freedom, max(1, settings - 1))


def seeds_for(difference: float, spread: Spread, users: int, settings: int, most: int = 100) -> int | None:
    """The fewest seeds that resolve `difference` with these users; None: no number up to `most` does."""
    return next((n for n in range(2, most + 1) if resolved(spread, users, n, settings) <= difference), None)


def users_for(difference: float, spread: Spread, seeds: int, settings: int) -> int | None:
    """The fewest users that resolve `difference` with these seeds, by bisection; None: no number does."""
    low, high = 2, MOST
    if resolved(spread, high, seeds, settings) > difference:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if resolved(spread, middle, seeds, settings) <= difference else (middle + 1, high)
    return low


def pooled(spreads: Iterable[Spread], source: str) -> Spread | None:
    """Several sweeps' spreads as one, each by its degrees of freedom; None of none."""
    found = [spread for spread in spreads if spread.freedom >= 1]
    freedom = sum(spread.freedom for spread in found)
    if not found:
        return None
    names = ("lasting", "passing", "seeds")
    means = {name: sum(getattr(s, name) * s.freedom for s in found) / freedom for name in names}
    return Spread(**means, freedom=freedom, source=source)


def known_spread(root: Path, dataset: str) -> Spread:
    """The spread that earlier sweeps on the same data set left in a store, else the assumed one."""
    found = []
    for path in sorted((root / "sweeps").glob(f"*/{FILE}")):
        content = json.loads(path.read_text())
        if content.pop("dataset") == dataset and "freedom" in content:
            found.append(Spread(**_named(content)))
    text = f"{len(found)} earlier sweep{'s' if len(found) > 1 else ''} of {dataset} in this store"
    return pooled(found, text) or ASSUMED


def _named(content: dict[str, Any]) -> dict[str, Any]:
    return {field.name: content[field.name] for field in fields(Spread) if field.name in content}
