"""Which models of a sweep's trials stay when the trials have ended, so that large ones fill no disk."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

from raypref.storage.inventory import drop_model, outputs, referrers
from raypref.storage.store import Store
from raypref.sweeps.space import Trial

logger = logging.getLogger(__name__)
METRICS = ("exact_hr@1", "generated_hr@1")


class ModelKeeper:
    """Drops the aligned models of trials that ended, all of them or all but the best; none that others refer to."""

    def __init__(self, keep: Literal["all", "best", "none"], store: Store) -> None:
        self.keep, self.store = keep, store
        self.best: tuple[float, str] | None = None

    def started(self, trial: Trial) -> None:
        """Nothing: its model is yet to come."""

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        """Drop the model of a trial that ended well, or that of the one it beats."""
        aligned = str(trial.chain.trained.address)
        if self.keep == "all" or record.get("status") != "done" or not aligned.startswith("align/"):
            return
        if self.keep == "none":
            self._drop(aligned)
            return
        value = _validated(record)
        if self.best is None:
            self.best = value, aligned
        elif value > self.best[0]:
            self._drop(self.best[1])
            self.best = value, aligned
        else:
            self._drop(aligned)

    def _drop(self, address: str) -> None:
        found = outputs(self.store)
        if len(referrers(self.store, found).get(address, ())) > 1:
            logger.info("%s keeps its model: another sweep or run refers to it", address)
        elif address in found:
            drop_model(self.store, address)


def _validated(record: dict[str, Any]) -> float:
    """Of a finished trial, what models are chosen by: HR@1 on validation."""
    metrics = record.get("metrics", {})
    found = metrics.get("validation") or metrics.get("test") or {}
    return next((float(found[name]) for name in METRICS if name in found), -math.inf)
