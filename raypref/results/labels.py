"""What tables and figures call parameters, their values and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pandas as pd

SYMBOLS = {"lambda": "λ", "alpha": "α", "rho": "ρ", "u_beta": "U_β", "beta": "β", "negatives": "K", "name": "method"}
METRICS = {
    "generated_hr@1": "HR@1",
    "valid_ratio": "ValidRatio",
    "exact_hr@1": "exact HR@1",
    "exact_hr@5": "exact HR@5",
    "exact_ndcg@5": "exact NDCG@5",
    "exact_mrr": "exact MRR",
    "beam_hr@5": "beam HR@5",
    "beam_ndcg@5": "beam NDCG@5",
    "exact_adherence": "exact adherence",
    "exact_avoidance": "exact avoidance",
    "exact_aversion": "exact aversion",
    "generated_adherence": "adherence",
    "generated_avoidance": "avoidance",
    "generated_aversion": "aversion",
    "agreement": "generated = exact",
    "orders_hr@1": "HR@1 of all orders as one",
    **{f"place_{k}_hr@1": f"exact HR@1, target in fifth {k}" for k in range(1, 6)},
    "follows_item": "same item",
    "follows_place": "same place",
    "generated_hr@1_contains": "HR@1 (contains)",
    "valid_ratio_contains": "ValidRatio (contains)",
    "constrained_hr@1": "constrained HR@1",
    "constrained_outside": "outside the set",
    "constrained_beam_hr@5": "constrained beam HR@5",
    **{f"catalog_{name.lower()}@{k}": f"all: {name}@{k}" for name in ("HR", "NDCG", "MRR") for k in (1, 5, 10, 20)},
}
"""Short names. All of these are means of values between 0 and 1."""
UNBOUNDED = {
    "exact_popularity_bias": "exact popularity bias",
    "generated_popularity_bias": "popularity bias",
    "place_gap": "first half less second",
}
COSTS = {"train_seconds": "training time (s)", "peak_memory_gb": "peak memory (GB)"}


def symbol(key: str, sweep: Mapping[str, Any] | None = None) -> str:
    """The papers' letter for a config key: the sweep's own choice, else the usual one, else the key's last part."""
    last = key.rsplit(".", 1)[-1]
    chosen = (sweep or {}).get("symbols")
    known = chosen.get(key) if isinstance(chosen, Mapping) else None
    return str(known or SYMBOLS.get(last, last))


def math_symbol(text: str) -> str:
    """A symbol as matplotlib and LaTeX set it: `U_β` is `$U_\\beta$`."""
    letters = {
        "λ": r"\lambda",
        "α": r"\alpha",
        "ρ": r"\rho",
        "β": r"\beta",
        "τ": r"\tau",
        "γ": r"\gamma",
        "ε": r"\epsilon",
    }
    if not (any(letter in text for letter in letters) or len(text) == 1):
        return text
    for letter, name in letters.items():
        text = text.replace(letter, name)
    base, _, index = text.partition("_")
    return f"${base}_{{{index}}}$" if index else f"${base}$"


def value_text(value: Any) -> str:
    """2.0 is `2`, a missing value `-`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def setting_text(params: Mapping[str, Any], sweep: Mapping[str, Any] | None = None) -> str:
    """`λ=2 α=0.5`; a method is called by its name alone."""
    named = {key: (symbol(key, sweep), value_text(value)) for key, value in params.items()}
    return " ".join(text if name == "method" else f"{name}={text}" for name, text in named.values())


def same(value: Any, other: Any) -> bool:
    """Values of a swept key, whether read from JSON or from a column of text."""
    if isinstance(value, str) or isinstance(other, str):
        return str(value).lower() == str(other).lower()
    if value is None or other is None:
        return value is other
    return bool(math.isclose(float(value), float(other), rel_tol=1e-12))


def metric_label(metric: str) -> str:
    return (METRICS | UNBOUNDED | COSTS).get(metric, metric)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as dicts by column."""
    return cast("list[dict[str, Any]]", table.to_dict("records"))


def confined(metric: str, low: float, high: float) -> tuple[float, float]:
    """An interval cut to what the metric can be: no HR@1 is below 0."""
    if metric not in METRICS:
        return low, high
    return (max(low, 0.0) if low == low else low), (min(high, 1.0) if high == high else high)
