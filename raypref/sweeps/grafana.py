"""The Grafana dashboard of the trials, in the folder of Ray's own: a Grafana that is started for Ray has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raypref.storage.store import write_json
from raypref.sweeps.metric_names import METRICS, query

UID = "raypref-trials"
SWEEP = "$sweep"  # a variable of the dashboard
COLUMNS, HEIGHT = 2, 9


def grafana_dashboard() -> dict[str, Any]:
    """A time series panel for each metric, a line for each trial; the sweeps shown can be chosen."""
    panels = [_panel(i, name, description) for i, (name, description) in enumerate(METRICS.items())]
    variable = {
        "name": "sweep",
        "type": "query",
        "datasource": _source(),
        "query": "label_values(ray_raypref_step, sweep)",
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "uid": UID,
        "title": "raypref: trials",
        "tags": ["raypref"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "5s",
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}, variable]},
        "panels": panels,
    }


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def _panel(number: int, metric: str, description: str) -> dict[str, Any]:
    width = 24 // COLUMNS
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": metric.removeprefix("raypref_").replace("_", " "),
        "description": description,
        "datasource": _source(),
        "gridPos": {"x": number % COLUMNS * width, "y": number // COLUMNS * HEIGHT, "w": width, "h": HEIGHT},
        "targets": [{"refId": "A", "expr": query(metric, SWEEP), "legendFormat": "{{trial}}", "datasource": _source()}],
        "fieldConfig": {"defaults": {"custom": {"spanNulls": True}}, "overrides": []},
    }


def place(folder: Path) -> Path:
    """Write the dashboard beside Ray's own, in `<session>/metrics/grafana/dashboards`."""
    path = folder / f"{UID}.json"
    write_json(path, grafana_dashboard())
    return path
