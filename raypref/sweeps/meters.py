"""The gauges of trials, and the actor that holds a trial's: imports little, as each trial has a process for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge

from raypref.sweeps.metric_names import METRICS, shown_as


class Meters:
    """The gauges of one set of tag names."""

    def __init__(self, tag_keys: tuple[str, ...]) -> None:
        self.gauges = {name: Gauge(name, description, tag_keys=tag_keys) for name, description in METRICS.items()}

    def show(self, values: Mapping[str, Any], tags: dict[str, str]) -> None:
        """Set the gauges of those values that have one; the rest is not shown."""
        for key, value in values.items():
            name = shown_as(key)
            if name is not None and isinstance(value, (int, float)):
                self.gauges[name].set(float(value), tags=tags)


class Board:
    """The body of a trial's actor."""

    def __init__(self, tags: dict[str, str]) -> None:
        self.tags, self.meters = tags, Meters(tuple(tags))

    def show(self, values: dict[str, Any]) -> None:
        self.meters.show(values, self.tags)
