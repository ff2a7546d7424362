"""What a sweep leaves for the power of later ones: how much its settings' differences vary by user and by seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from raypref.results.collect import Collection
from raypref.results.diagnosis import diagnosis_table
from raypref.results.paired import spread_of
from raypref.results.power import FILE, Spread
from raypref.results.summaries import by_seed, settings, user_matrix
from raypref.results.tables import headline_metric
from raypref.results.training_curves import training_table
from raypref.storage.store import write_json


def sweep_spread(collection: Collection) -> Spread | None:
    """The parts of a difference's variance in the headline metric; None with fewer than two settings of two seeds."""
    by_user = user_matrix(collection, headline_metric(collection), collection.reported)
    found = [by_seed(by_user, setting) for setting in settings(collection) if not setting.fixed]
    seeds = min((len(values) for values in found if len(values) > 1), default=0)
    cells = [values.iloc[:seeds].to_numpy(dtype=float) for values in found if len(values) > 1]
    if seeds < 2 or len(cells) < 2:
        return None
    array = np.stack(cells)
    array = array[:, :, np.isfinite(array).all(axis=(0, 1))]
    return spread_of(array) if array.shape[2] > 1 else None


def keep_spread(collection: Collection, folder: Path) -> None:
    """Write it, and how far alignment came, beside the sweep's results, where dry runs look."""
    spread, config = sweep_spread(collection), collection.sweep.get("config", {})
    of = {"dataset": collection.sweep.get("dataset"), "metric": headline_metric(collection)}
    margins = diagnosis_table(collection)["reached"].dropna()
    if len(margins):
        last = training_table(collection)["step"].max()
        rate = config.get("align", {}).get("learning_rate", 0.0)
        of["reached"] = {"margin": float(margins.max()), "steps": int(last) + 1, "learning_rate": rate}
    write_json(folder / FILE, of | ({} if spread is None else dataclasses.asdict(spread)))
