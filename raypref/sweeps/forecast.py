"""What a sweep can find, before it runs: the smallest difference its users and seeds resolve, and what its margins ask.

For `--dry-run`: neither SciPy nor torch nor pandas is imported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raypref.config import RunConfig
from raypref.config.objective_switches import Margin
from raypref.data.columns import ExampleTable
from raypref.results.labels import setting_text
from raypref.results.power import FILE, known_spread, resolved, seeds_for, users_for
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.space import Trial

MARGINS = {
    "ratio": lambda own, other: own / other,
    "log_ratio": lambda own, other: np.log(own / other),
    "log_diff": lambda own, other: np.log(np.maximum(1 + own - other, 1e-6)),
}
"""As in `raypref.objectives.margins`, whose are of torch; a test holds the two together."""
UNKNOWN_USERS = 500
WANTED = 0.01
RATED, LIKED = 3.5, 4.5
"""Ratings of a future item, and of a preferred one, where no data are prepared yet."""
LINEAR = 4.0
"""So many times what training reaches, and a margin is beyond it."""


def power_line(planned: Sequence[Trial], settings: int, seeds: int, store: Store, wanted: float = WANTED) -> str:
    """`power     480 test users and 3 seeds show a difference of HR@1 of 0.016 or more (4 times in 5) ...`"""
    chain = planned[0].chain
    users, told = _test_users(chain, store)
    spread = known_spread(store.root, chain.config.data.source.kind)
    least = resolved(spread, users, seeds, settings)
    have = f"{users}{told} test users, {seeds} seed{'s' if seeds > 1 else ''} and {settings} settings"
    if settings < 2:
        return "power     one setting: nothing to compare"
    if least == float("inf"):
        return f"power     {have}: one seed says nothing of other seeds; give --seeds 3, or --decide {wanted:g}"
    more_seeds = seeds_for(wanted, spread, users, settings)
    more_users = users_for(wanted, spread, seeds, settings)
    text = f"power     {have} show a difference of HR@1 of {least:.2g} or more to the default, 4 times in 5; "
    if least <= wanted:
        return text + f"{wanted:g} is within reach (spread: {spread.source})"
    needs = [f"{more_seeds} seeds"] if more_seeds else []
    needs += [f"{more_users:,} users"] if more_users else []
    return text + f"{wanted:g} would need {' or '.join(needs) or 'more seeds and users'} (spread: {spread.source})"


def _test_users(chain: Chain, store: Store) -> tuple[int, str]:
    """Examples of the test split, and a word where they are not counted yet."""
    most = chain.config.evaluation.max_examples
    prepare = next((stage for stage in chain.shared if stage.kind == "prepare"), None)
    if prepare is not None and store.done(prepare.address):
        folder = store.path(prepare.address)
        split = "test" if (folder / "test").is_dir() else "validation"
        rows = ExampleTable([folder], split).rows
        return (min(rows, most) if most else rows), ""
    users = getattr(chain.config.data.source, "users", None) or UNKNOWN_USERS
    return (min(users, most) if most else users), " (assumed until the data are prepared)"


def margin_line(planned: Sequence[Trial], store: Store) -> str:
    """`margins   λ=0.5 asks for a reward margin of 2.4 nats, λ=3 for 14.1 ...`; empty where no setting asks for any."""
    asked = {}
    for trial in planned:
        text = setting_text(trial.params) or trial.method
        if text not in asked and (found := asked_margin(trial.chain, store)) is not None and found.nats > 0:
            asked[text] = found
    if not asked:
        return ""
    ordered = sorted(asked, key=lambda text: asked[text].nats)
    least, most = ordered[0], ordered[-1]
    text = f"margins   {most} asks for a reward margin of {asked[most].nats:.1f} nats"
    text += f", {least} for {asked[least].nats:.1f}" if least != most else ""
    text += f" ({asked[most].source}); an alignment begins at 0"
    config = planned[0].chain.config
    reached = _reached(store.root, config)
    if reached is None:
        return text + ", and the report says how far it came"
    way = f"{reached['steps']} steps at {reached['learning_rate']:g}"
    text += f", and one of {way} came to {reached['margin']:.1f} here"
    share = _share_of_way(config, reached)
    if share < 1:
        text += f"; {config.align.max_steps} steps at {config.align.learning_rate:g} may come to {share:.0%} of that"
    if asked[most].nats > LINEAR * share * reached["margin"]:
        text += ": so far off, the margin can hardly act; raise --align.max-steps or --align.learning-rate"
    return text


def _share_of_way(config: RunConfig, reached: dict[str, Any]) -> float:
    """Steps times learning rate, of those that came so far; 1 where that is more, or the steps are not known."""
    steps = config.align.max_steps
    before = reached["steps"] * reached["learning_rate"]
    return min(1.0, steps * config.align.learning_rate / before) if steps and before else 1.0


@dataclass(frozen=True)
class Asked:
    """What an objective's handicap comes to."""

    nats: float
    source: str
    """Where ratings and latencies are from."""


def asked_margin(chain: Chain, store: Store) -> Asked | None:
    """Mean handicap of a training example's pairs under the run's objective; None for one without."""
    params: Any = chain.config.align.objective
    if chain.config.system != "aligned" or not isinstance(params, Margin) or params.margin == "none":
        return None
    prepare = next((stage for stage in chain.shared if stage.kind == "prepare"), None)
    if prepare is not None and store.done(prepare.address):
        columns = ("target", "rating", "latency")
        table = ExampleTable([store.path(prepare.address)], "train", columns).read(0)
        rating, latency = (np.array(table[name].to_pylist(), dtype=float) for name in ("rating", "latency"))
        place = table["target"].to_numpy()
        source = f"by {len(place):,} training examples"
    else:
        rating, latency, place = _typical(chain.config)
        source = "by typical ratings, until the data are prepared"
    return Asked(handicap(params, rating, latency, place), source)


def _typical(config: RunConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One example: the next item, liked, the user's later ones at an even pace, and items never met."""
    drawn = config.data.candidates
    later = drawn.train_future - 1
    rating = np.array([[LIKED, *[RATED] * later, *[np.nan] * drawn.train_random]])
    latency = np.array([[1.0, *range(2, later + 2), *[np.nan] * drawn.train_random]])
    return rating, latency, np.zeros(1, dtype=int)


def handicap(params: Margin, rating: np.ndarray, latency: np.ndarray, target: np.ndarray) -> float:
    """Mean over examples (B,) and their candidates (B, C) but the target of `raypref.objectives.margins`' handicap."""
    phi = np.where(np.isnan(rating), params.default_score, rating)
    phi = phi / np.where(np.isnan(latency), params.default_latency, latency) ** params.alpha
    own = np.take_along_axis(phi, target[:, None], axis=1)
    m = MARGINS[params.margin](own, phi)
    others = np.ones_like(m, dtype=bool)
    np.put_along_axis(others, target[:, None], False, axis=1)
    sign = 1 if params.margin_sign == "derived" else -1
    return float(sign * params.lambda_ * m[others].mean())


def _reached(root: Path, config: RunConfig) -> dict[str, Any] | None:
    """The furthest margin that an earlier sweep's alignments on this kind of data came to, with its steps and rate."""
    found = []
    for path in sorted((root / "sweeps").glob(f"*/{FILE}")):
        content = json.loads(path.read_text())
        if content["dataset"] == config.data.source.kind and content.get("reached"):
            found.append(content["reached"])
    return max(found, key=lambda reached: float(reached["margin"]), default=None)
