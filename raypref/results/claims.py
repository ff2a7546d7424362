"""The registry of claims: what papers, and our own results, say of two methods (claims.yaml)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from raypref.config.loading import validated
from raypref.results.contrasts import Contrast
from raypref.results.labels import metric_label

REGISTRY = Path(__file__).with_name("claims.yaml")


@functools.cache
def claims() -> dict[str, tuple[Contrast, ...]]:
    """Read all claims, by the study of jobs/replicate.py that asks them; `own` are those of our own results."""
    listed: dict[str, list[dict[str, Any]]] = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    return {
        study: tuple(
            validated(Contrast, each, f"{REGISTRY.name}, {study}, claim {number}") for number, each in enumerate(own)
        )
        for study, own in listed.items()
    }


def claim_table() -> pd.DataFrame:
    """List the claims, a row each.

    Columns: study, claim, metric, set (empty: the test set), gains (the relative gains that are printed, from least to
    greatest; empty where only a direction is), data (what the paper prints numbers for), source.
    """
    rows = []
    for study, own in claims().items():
        for claim in own:
            gains = claim.gains
            rows.append(
                {
                    "study": study,
                    "claim": f"{claim.first} {'>' if claim.claimed > 0 else '<'} {claim.second}",
                    "metric": metric_label(claim.metric),
                    "set": claim.split or "",
                    "gains": f"{min(gains):+.1%} to {max(gains):+.1%}" if gains else "",
                    "data": ", ".join(claim.data),
                    "source": claim.source,
                }
            )
    return pd.DataFrame(rows)
