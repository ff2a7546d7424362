"""What a sweep can find, before it runs: the smallest difference that its users and seeds resolve.

Plain Python, as `--dry-run` says it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist
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
    return (t_quantile(1 - LEVEL / (2 * comparisons), freedom) + t_quantile(power, freedom)) * error


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


def t_quantile(p: float, freedom: float) -> float:
    """Student's t by bisection of its distribution function; whole degrees of freedom (others are cut), or infinite."""
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    if freedom > 1000:
        return NormalDist().inv_cdf(p)
    low, high = 0.0, 1e7
    for _ in range(80):
        middle = math.sqrt(low * high) if low > 1 else (low + min(high, 64.0)) / 2 if high > 64 else (low + high) / 2
        if t_distribution(middle, max(1, int(freedom))) < p:  # fewer than one: as one
            low = middle
        else:
            high = middle
    return high


def t_distribution(t: float, freedom: int) -> float:
    """P(T <= t) of Student's t with whole degrees of freedom (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    first = 1 if freedom % 2 else 0  # the series of odd freedom begins with cos, of even with 1
    term = total = cosine if freedom % 2 else 1.0
    for k in range(2 + first, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if freedom == 1:
        inside = 2 * angle / math.pi
    elif freedom % 2:
        inside = 2 / math.pi * (angle + sine * total)
    else:
        inside = sine * total
    return 0.5 + inside / 2
