"""A thousand planted sweeps, whose true differences are known: how often verdicts, stops and predictions are wrong.

    python benchmarks/verdicts.py --sweeps 1000

The sweeps are as ours (docs/results.md, MovieLens 100K, seven sweeps of five settings): hits of 480 or 943 users, two
models of a setting disagreeing on some 5 % of them, settings with one seed on 0.5 to 3 %, seeds that shift all settings
alike, and a little one setting alone. What judges is the code that the reports call.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from raypref.results.choice import choose
from raypref.results.crossed import crossed_test, seed_spread
from raypref.results.paired import paired_difference, spread_of, two_way_spread
from raypref.results.power import pooled, resolved
from raypref.results.sequential import look
from raypref.results.statistics import Test
from raypref.results.verdicts import BETTER, EQUIVALENT, UNDECIDED, WORSE, verdicts

EFFECTS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03)
SETTINGS, SEEDS, MOST_SEEDS, MARGIN = 5, 5, 5, 0.01


@dataclass(frozen=True)
class Sweep:
    """Hits of a planted sweep, and the truth behind them."""

    hits: np.ndarray
    """(M, S, U) 0 or 1: setting 0 is the reference."""
    truth: np.ndarray
    """(M,) expected hits over all users and seeds there could be, less the reference's."""
    expected: np.ndarray
    """(M,) expected hits themselves."""
    validation: np.ndarray
    """(M, S, U) hits on other questions to the same users by the same models."""

    @property
    def both(self) -> np.ndarray:
        """(M, S, U) a user's two questions as one value, as `--decide` takes them."""
        return (self.hits + self.validation) / 2


@dataclass(frozen=True)
class Parts:
    """Variances of a probit model of hits, whose whole is 1; the rest is the user's own."""

    user_setting: float
    triple: float
    """Of user, seed and setting together."""
    seed_setting: float
    user_seed: float = 0.012
    seed: float = 0.008**2

    @classmethod
    def draw(cls, rng: np.random.Generator, own: float = 1.0) -> Parts:
        """As our sweeps have them, some more and some less; `own` multiplies what a seed does to one setting alone."""
        return cls(
            user_setting=0.004 * rng.uniform() ** 3,
            triple=float(np.exp(rng.uniform(np.log(0.0002), np.log(0.002)))),
            seed_setting=(own * rng.uniform(0, 0.003)) ** 2,
        )

    @classmethod
    def restless(cls, rng: np.random.Generator) -> Parts:
        """Seeds move one setting three times as much."""
        return cls.draw(rng, own=3.0)

    @classmethod
    def breaking(cls, rng: np.random.Generator) -> Parts:
        """As the default sweep has them, whose greatest λ breaks the model with some seeds more than with others."""
        return cls(
            user_setting=0.03 * rng.uniform() ** 2,
            triple=float(np.exp(rng.uniform(np.log(0.05), np.log(0.15)))),
            seed_setting=rng.uniform(0, 0.06) ** 2,
        )


World = Callable[[np.random.Generator], Parts]


def planted(
    rng: np.random.Generator,
    effects: np.ndarray,
    users: int,
    seeds: int = MOST_SEEDS,
    parts: Parts | None = None,
) -> Sweep:
    """A sweep by a probit model of what the user, the seed and the setting do: a hit is `1[z < setting's threshold]`.

    Args:
        effects: (M,) true hit rates less the reference's.
        parts: the variances; None: drawn anew.
    """
    settings, of = len(effects), parts or Parts.draw(rng)
    base = rng.uniform(0.13, 0.38)
    rest = 1 - of.user_setting - of.triple - of.user_seed - of.seed - of.seed_setting
    thresholds = scipy.special.ndtri(base + effects)[:, None, None]
    shift = np.sqrt(of.seed) * rng.standard_normal((1, seeds, 1))
    shift = shift + np.sqrt(of.seed_setting) * rng.standard_normal((settings, seeds, 1))
    taste = rng.standard_normal((2, users))
    taste[1] = 0.5 * taste[0] + np.sqrt(0.75) * taste[1]  # another question to the same user
    drawn = []
    for own_taste in taste:
        z = np.sqrt(rest) * own_taste + shift
        z = z + np.sqrt(of.user_seed) * rng.standard_normal((1, seeds, users), dtype=np.float32)
        z = z + np.sqrt(of.user_setting) * rng.standard_normal((settings, 1, users), dtype=np.float32)
        z = z + np.sqrt(of.triple) * rng.standard_normal((settings, seeds, users), dtype=np.float32)
        drawn.append((z < thresholds).astype(np.float64))
    return Sweep(drawn[0], effects - effects[0], base + effects, drawn[1])


PANELS = {
    "mixed": lambda rng: np.append(0.0, rng.choice(EFFECTS, SETTINGS - 1)),
    "all equal": lambda rng: np.zeros(SETTINGS),
    "all 0.01 better": lambda rng: np.append(0.0, np.full(SETTINGS - 1, MARGIN)),
}
"""True effects of a sweep's settings: drawn, or where false verdicts of either kind come most easily."""


def fixed(hits: np.ndarray, seeds: int = SEEDS) -> list[Test]:
    """What the report tests of a sweep whose settings all have so many seeds."""
    settings = len(hits)
    cells = hits[:, :seeds].reshape(settings * seeds, -1)
    spread = two_way_spread(cells, np.repeat(np.arange(settings), seeds), np.tile(np.arange(seeds), settings))
    return [paired_difference(of[:seeds] - hits[0, :seeds], spread) for of in hits[1:]]


def unpaired(hits: np.ndarray, seeds: int = SEEDS) -> list[Test]:
    """The same as if each setting had seeds of its own."""
    spread = seed_spread(of[:seeds] for of in hits)
    assert spread is not None
    return [crossed_test(of[:seeds], hits[0, :seeds], spread) for of in hits[1:]]


def decided(hits: np.ndarray, most: int = SEEDS) -> tuple[list[str], int]:
    """Verdicts of `--decide`, and how many trials they took."""
    seeds, decisions, number = [1] * len(hits), [], 1
    while True:
        values = [of[:n] for of, n in zip(hits, seeds)]
        decisions = look(values[1:], values[0], decisions, number, most, MARGIN)
        still = [i for i, decision in enumerate(decisions, start=1) if decision.open]
        if not still:
            return [decision.verdict for decision in decisions], sum(seeds)
        for i in still:
            seeds[i] += 1
        seeds[0], number = max(seeds), number + 1


def false(words: list[str], truth: np.ndarray) -> tuple[bool, bool]:
    """Whether any verdict is a false better or worse, and whether any is a false equivalent."""
    sign = [t <= 0 if word == BETTER else t >= 0 for word, t in zip(words, truth) if word in (BETTER, WORSE)]
    alike = [abs(t) >= MARGIN - 1e-12 for word, t in zip(words, truth) if word == EQUIVALENT]
    return any(sign), any(alike)


def run(
    sweeps: int, users: tuple[int, ...] = (480, 943), seed: int = 0, world: World = Parts.draw
) -> dict[str, dict[str, float]]:
    """Each panel's shares over `sweeps` planted sweeps, half of them with each number of users.

    A quarter of them is decided by one split too.
    """
    found = {}
    for panel, draw in PANELS.items():
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(sweeps):
            sweep = planted(rng, draw(rng), users[number % len(users)], SEEDS, parts=world(rng))
            row, words = _rounds("`--decide`", sweep, sweep.both)
            test = verdicts(fixed(sweep.hits), MARGIN)
            row["five seeds, one split: decided"] = _decided(test)
            row["`--decide` says what they say"] = float(np.mean([a == b for a, b in zip(words, test)]))
            agreed = [a == b for a, b in zip(words, test) if b != UNDECIDED]
            row["of what they decide"] = float(np.mean(agreed)) if agreed else math.nan
            if number < sweeps // 4:
                row |= _rounds("`--decide`, one split", sweep, sweep.hits)[0]
                row["five seeds, one split, not paired: decided"] = _decided(verdicts(unpaired(sweep.hits), MARGIN))
            rows.append(row)
        found[panel] = {name: float(np.nanmean([row[name] for row in rows if name in row])) for name in rows[0]}
    return found


def _rounds(name: str, sweep: Sweep, hits: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """What rounds of seeds say, beside what five seeds say at once of the same questions; and the rounds' verdicts."""
    words, trials = decided(hits)
    five = verdicts(fixed(hits), MARGIN)
    wrong, at_once = false(words, sweep.truth[1:]), false(five, sweep.truth[1:])
    sure = [a == b for a, b in zip(words, five) if b != UNDECIDED]
    found = {
        f"{name}: any false better or worse": wrong[0],
        f"{name}: any false equivalent": wrong[1],
        f"{name}: trials, of those of five seeds": trials / (SETTINGS * SEEDS),
        f"{name}: decided": _decided(words),
        f"{name}: five seeds at once, decided": _decided(five),
        f"{name}: five seeds at once, any false better or worse": at_once[0],
        f"{name}: five seeds at once, any false equivalent": at_once[1],
        f"{name}: says what five seeds at once say": float(np.mean([a == b for a, b in zip(words, five)])),
        f"{name}: of what these decide": float(np.mean(sure)) if sure else math.nan,
        f"{name}: says another thing": float(
            np.mean([a != b and UNDECIDED not in (a, b) for a, b in zip(words, five)])
        ),
    }
    return found, words


def _decided(words: list[str]) -> float:
    return float(np.mean([word != UNDECIDED for word in words]))


def chosen(sweeps: int, users: tuple[int, ...] = (480, 943), seed: int = 0, seeds: int = 3) -> dict[str, float]:
    """Bias of the chosen setting's score, as a mean over planted sweeps: reported on other questions than it was chosen
    by; on the same ones, as it is and corrected.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(sweeps):
        panel = list(PANELS.values())[number % 2]
        sweep = planted(rng, panel(rng), users[number // 2 % len(users)], seeds)
        means = sweep.validation.mean(axis=(1, 2))
        top = int(means.argmax())
        choice = choose(list(sweep.validation), resamples=300)
        truth = sweep.expected[top]
        rows.append((sweep.hits[top].mean() - truth, means[top] - truth, means[top] - choice.optimism - truth))
    names = ("chosen on validation, reported on test", "one split, as it is", "one split, corrected")
    array = np.array(rows)
    error = array.std(axis=0) / np.sqrt(sweeps)
    return dict(zip(names, array.mean(axis=0).tolist())) | {f"{n}: standard error": e for n, e in zip(names, error)}


def smallest(sweeps: int, users: int, seeds: int, world: int) -> tuple[float, float]:
    """The smallest difference found with 80 % power: predicted from earlier sweeps' spread, and by simulation.

    All sweeps are of one world: the parts of the variance are drawn once. The simulated one is read off a line through
    the shares found at 0.8 to 1.2 of the prediction.
    """
    frozen = np.random.default_rng(world)
    parts = Parts.draw(frozen)
    rng = np.random.default_rng(world + 1000)
    earlier = [spread_of(planted(rng, np.zeros(SETTINGS), 600, SEEDS, parts=parts).hits) for _ in range(6)]
    spread = pooled(earlier, "planted")
    assert spread is not None
    predicted = resolved(spread, users, seeds, SETTINGS)
    shares, tried = [], np.array([0.8, 0.9, 1.0, 1.1, 1.2]) * predicted
    for effect in tried:
        hit = 0
        for _ in range(sweeps):
            sweep = planted(rng, np.append(0.0, np.append(effect, np.zeros(SETTINGS - 2))), users, seeds, parts=parts)
            hit += verdicts(fixed(sweep.hits, seeds), MARGIN)[0] == BETTER
        shares.append(hit / sweeps)
    slope, start = np.polyfit(tried, shares, 1)
    return predicted, (0.8 - start) / slope


def main() -> None:
    """Print the tables; with `--out`, write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--only", choices=("worlds", "scores"), help="one half of it alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()
    found: dict[str, Any] = {}
    if options.only != "scores":
        found |= _worlds(options.sweeps)
    if options.only != "worlds":
        found |= _scores(options.sweeps)
    print(f"\n{options.sweeps} sweeps, {time.perf_counter() - began:.0f} s")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _worlds(sweeps: int) -> dict[str, Any]:
    """Print each world's table of verdicts."""
    worlds = {"as our sweeps": Parts.draw, "restless seeds": Parts.restless, "breaking models": Parts.breaking}
    counts = dict.fromkeys(worlds, sweeps // 4) | {"as our sweeps": sweeps}
    found = {}
    for title, of in worlds.items():
        panels = found[title] = run(counts[title], world=of)
        print(f"\n{title}\n| | {' | '.join(panels)} |\n|---|{'---|' * len(panels)}")
        for name in next(iter(panels.values())):
            print(f"| {name} | {' | '.join(f'{panel[name]:.3f}' for panel in panels.values())} |", flush=True)
    return found


def _scores(sweeps: int) -> dict[str, Any]:
    """Print how far the chosen one's score is off, and the predicted smallest differences."""
    bias = chosen(sweeps)
    print("\nbias of the chosen setting's score")
    for name, value in bias.items():
        print(f"| {name} | {value:+.4f} |")
    print("\n| users | seeds | predicted | simulated | ratio |\n|---|---|---|---|---|")
    powers = []
    for world, (users, seeds) in enumerate([(480, 3), (480, 5), (943, 3), (943, 5)]):
        predicted, simulated = smallest(sweeps // 4, users, seeds, world)
        powers.append({"users": users, "seeds": seeds, "predicted": predicted, "simulated": simulated})
        print(f"| {users} | {seeds} | {predicted:.4f} | {simulated:.4f} | {predicted / simulated:.2f} |", flush=True)
    return {"bias": bias, "smallest differences": powers}


if __name__ == "__main__":
    main()
