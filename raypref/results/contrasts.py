"""What the papers claim of two methods, and what our rows say of the same two: agrees, disagrees, equivalent, or open.

Backbones and protocols differ, so no absolute number is compared: only which method is better, and by what share.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml
from pydantic import model_validator
from typing_extensions import Self

from raypref.config.base import Frozen
from raypref.results.benchmark import PUBLISHED
from raypref.results.collect import Collection
from raypref.results.crossed import SeedSpread, crossed_test, seed_spread
from raypref.results.labels import metric_label, rows_of
from raypref.results.paired import difference_spread, paired_difference
from raypref.results.render import Cells
from raypref.results.statistics import Test, holm, paired_bootstrap
from raypref.results.summaries import Setting, margin_of, matrix, settings
from raypref.results.verdicts import EQUIVALENT, LEVEL, equivalence_p

HEADLINE = "hr@1"
"""By generation where a method generates, as the papers have it, else by its ranking (recommenders)."""
AGREES, DISAGREES, OPEN, MISSING = "agrees", "disagrees", "not resolved", "not measured"
COLUMNS = [
    "claim", "first", "second", "metric", "split", "source", "direction", "paper_low", "paper_high",
    "first_mean", "second_mean", "difference", "low", "high", "gain", "gain_low", "gain_high", "p", "p_holm",
    "seeds", "users", "test", "verdict", "size",
]  # fmt: skip


class Contrast(Frozen):
    """A claim of a paper: `first` is better than `second` (or worse: `direction`)."""

    first: str
    """A method of the study."""
    second: str
    """The one it is compared with."""
    source: str
    """Paper and place, as in published.yaml where its numbers are there."""
    metric: str = HEADLINE
    """A metric of the rows, or hr@1: by generation where there is one, else by ranking."""
    split: str | None = None
    """The set it is asked of; none: test, or validation where no test set was published."""
    printed: Mapping[str, tuple[float, float]] = {}
    """By data set, what the paper prints for both; what published.yaml has is found without being named here."""
    direction: int | None = None
    """1: first is greater, -1: less, for claims of a figure without numbers; none: as printed."""

    @model_validator(mode="after")
    def _has_a_claim(self) -> Self:
        if self.direction not in (None, 1, -1):
            raise ValueError(f"direction = {self.direction}: 1 or -1")
        if self.direction is None and self.claimed == 0:
            raise ValueError(
                f"{self.first} against {self.second}: no table of {self.source} has both with one sign; give "
                "`printed` or `direction`"
            )
        return self

    @property
    def gains(self) -> list[float]:
        """Relative gains `first / second - 1` that the paper prints, one a data set and backbone."""
        return [first / second - 1 for _, first, second in self._numbers]

    @property
    def data(self) -> tuple[str, ...]:
        """The data sets that the paper prints numbers for."""
        return tuple(dict.fromkeys(data for data, _, _ in self._numbers))

    @property
    def _numbers(self) -> list[tuple[str, float, float]]:
        if self.printed or self.metric != HEADLINE or self.split is not None:
            return [(data, first, second) for data, (first, second) in self.printed.items()]
        tables = ((entry["data"], entry["hr@1"]) for entry in _published() if entry["paper"] == self.source)
        return [(data, t[self.first], t[self.second]) for data, t in tables if self.first in t and self.second in t]

    @property
    def claimed(self) -> int:
        """1: the paper has first above second, -1: below, 0: its own tables differ in sign."""
        if self.direction is not None:
            return self.direction
        signs = {int(math.copysign(1, gain)) for gain in self.gains if gain != 0}
        return signs.pop() if len(signs) == 1 else 0


@functools.cache
def _published() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return found


def verdict(claimed: int, low: float, high: float) -> str:
    """What a 95 % interval of our difference says of a claim on its sign (1 or -1).

    `agrees`: all of it on the claimed side of 0; `disagrees`: all on the other; else `not resolved`. An end at 0 itself
    resolves nothing. NaN: `not measured`.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    if low > 0 or high < 0:
        return AGREES if (low > 0) == (claimed > 0) else DISAGREES
    return OPEN


def size(gains: Sequence[float], low: float, high: float) -> str:
    """Our relative gain's interval beside the paper's range: `smaller`, `alike` (they meet), `larger`; by magnitude, in
    the paper's direction. Empty where the paper prints no numbers or we have none.
    """
    if not gains or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    least, most = min(gains), max(gains)
    if least <= high and low <= most:
        return "alike"
    return "smaller" if (high < least) == (least + most > 0) else "larger"


def contrast_table(collection: Collection, contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """A row for each claim, ours beside the paper's; `hr@1` claims have a second row by exact ranking.

    Columns: claim (text), first, second, metric, split, source, direction, paper_low and paper_high (range of the
    printed relative gains, NaN without), first_mean, second_mean, difference with low and high (95 %), gain with
    gain_low and gain_high (over second's mean, taken as known), p, p_holm (Holm over the rows), seeds, users, test,
    verdict, size. The interval is of `paired_test`.
    """
    rows = []
    for contrast in contrasts:
        metrics = (HEADLINE, "exact_hr@1") if contrast.metric == HEADLINE else (contrast.metric,)
        rows += [_row(collection, contrast, metric) for metric in metrics]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    return table


def _row(collection: Collection, contrast: Contrast, metric: str) -> dict[str, Any]:
    split = contrast.split or collection.reported
    by_name = {str(s.params["method"]): s for s in settings(collection)}
    gains = contrast.gains
    row: dict[str, Any] = {
        "claim": f"{contrast.first} {'>' if contrast.claimed > 0 else '<'} {contrast.second}",
        "first": contrast.first, "second": contrast.second, "metric": metric, "split": split,
        "source": contrast.source, "direction": contrast.claimed,
        "paper_low": min(gains, default=math.nan), "paper_high": max(gains, default=math.nan),
    }  # fmt: skip
    one, two = by_name.get(contrast.first), by_name.get(contrast.second)
    first, second = (_values(collection, setting, metric, split) for setting in (one, two))
    if one is None or two is None or first is None or second is None:
        return row | {"verdict": MISSING, "size": "", "p": math.nan, "seeds": 0, "users": 0, "test": "none"}
    spreads = _spreads(collection, metric, split)
    test, name = paired_test(first, second, spreads, one, two)
    said = verdict(contrast.claimed, test.low, test.high)
    if said == OPEN and equivalence_p(test, margin_of(collection)) <= LEVEL:
        said = EQUIVALENT
    means = [_mean(values) for values in (first, second)]
    scale = means[1] if means[1] else math.nan
    gain = {"gain": test.difference / scale, "gain_low": test.low / scale, "gain_high": test.high / scale}
    return row | {
        "first_mean": means[0], "second_mean": means[1], "difference": test.difference, "low": test.low,
        "high": test.high, **gain, "p": test.p, "seeds": min(len(first), len(second)), "users": test.n, "test": name,
        "verdict": said,
        "size": size(gains, gain["gain_low"], gain["gain_high"]),
    }  # fmt: skip


def _values(collection: Collection, setting: Setting | None, metric: str, split: str) -> pd.DataFrame | None:
    """(seeds, users) of a method; None where it has none. A user's several examples count as one: their mean."""
    if setting is None:
        return None
    for name in ("generated_hr@1", "exact_hr@1") if metric == HEADLINE else (metric,):
        found = matrix(collection, name, split)
        kept = {seed: trial for seed, trial in setting.trials.items() if trial in found.index}
        values = found.loc[list(kept.values())].dropna(axis=0, how="all")
        if len(values):
            if not values.columns.get_level_values("user").is_unique:
                values = values.T.groupby(level="user").mean().T
            return values.set_axis([seed for seed, trial in kept.items() if trial in values.index], axis=0)
    return None


def _mean(values: pd.DataFrame) -> float:
    return float(values.mean(axis=1).mean())


Spreads = tuple[SeedSpread | None, SeedSpread | None]


@functools.lru_cache(maxsize=32)
def _spreads(collection: Collection, metric: str, split: str) -> Spreads:
    """Spread over seeds of a method's values, and of the difference of two methods with the same seed."""
    found = [_values(collection, setting, metric, split) for setting in settings(collection)]
    seeded = [values for values in found if values is not None and len(values) > 1]
    return seed_spread(v.to_numpy() for v in seeded), difference_spread(seeded)


def paired_test(
    first: pd.DataFrame, second: pd.DataFrame, spreads: Spreads, one: Setting, two: Setting
) -> tuple[Test, str]:
    """Difference of two methods, (seeds, users) each, and the name of the test.

    `paired`: both have the same seeds (two or more); seeds and users of the per-seed differences are crossed random
    effects (`paired_difference`). `crossed`: seeds differ, or one of the two is one given model. `bootstrap`: one seed
    each; it speaks for those very models and other users.
    """
    users = first.columns.intersection(second.columns)
    a, b = first[users].to_numpy(dtype=float), second[users].to_numpy(dtype=float)
    given = one.fixed or two.fixed
    if spreads[1] is not None and not given and len(a) > 1 and list(first.index) == list(second.index):
        return paired_difference(a - b, spreads[1]), "paired"
    if spreads[0] is not None:
        return crossed_test(a, b, spreads[0], two.fixed, one.fixed), "crossed"
    return paired_bootstrap(a.mean(axis=0), b.mean(axis=0)), "bootstrap"


def contrast_cells(table: pd.DataFrame, dataset: str) -> Cells:
    """The table of claims as text."""
    header = ["claim", "measure", "paper", "paper's gain", "our gain", "95 %", "p (Holm)", "verdict", "size"]
    rows = []
    for row in rows_of(table):
        claimed = row["paper_low"], row["paper_high"]
        text = "as a figure" if claimed[0] != claimed[0] else _range(*claimed)
        measured = row["verdict"] != MISSING
        cells = [row["claim"], _measure(row), row["source"], text]
        cells += [_percent(row["gain"]) if measured else "-"]
        cells += [f"[{_percent(row['gain_low'])}, {_percent(row['gain_high'])}]" if measured else "-"]
        cells += [f"{row['p_holm']:.3f}" if row["p_holm"] == row["p_holm"] else "-", row["verdict"], row["size"] or "-"]
        rows.append([(cell, cell == DISAGREES) for cell in cells])
    counts = ", ".join(f"{n} {v}" for v, n in table["verdict"].value_counts().items())
    tests = ", ".join(sorted(set(table["test"]) - {"none"})) or "none"
    signs = (
        f"{counts}. A verdict is of the sign alone, by the 95 % interval of the difference over seeds and users "
        f"({tests} test); equivalent: it is none, and the difference is surely within the margin (0.01 unless told "
        "otherwise; two one-sided tests, 5 %). p is corrected by Holm over the rows. Gains are relative to the second "
        "method's mean."
    )
    sizes = (
        "Size: our interval beside the range of gains that the paper prints over its data sets and backbones. Those "
        "are not ours, nor is the protocol."
    )
    return Cells(f"{dataset}: the papers' claims", header, rows, [signs, sizes])


def _measure(row: Mapping[str, Any]) -> str:
    name = "HR@1" if row["metric"] == HEADLINE else metric_label(row["metric"])
    return name if row["split"] == "test" else f"{name}, {row['split']}"


def _range(low: float, high: float) -> str:
    return _percent(low) if _percent(low) == _percent(high) else f"{_percent(low)} to {_percent(high)}"


def _percent(share: float) -> str:
    return f"{share:+.1%}" if math.isfinite(share) else "-"
