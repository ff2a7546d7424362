"""The trials as they end: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raypref.sweeps.space import Trial


class LiveTable:
    """Shows each trial that ended, the best so far, and how long the rest will take."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total = console, total
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.started = time.time()
        self.live = Live(self._table(), console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(self._table())
            self.live.stop()

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        """A trial ended, well or badly."""
        self.rows.append((trial.label, record))
        if self.live:
            self.live.update(self._table())
            return
        values = "  ".join(f"{name} {value}" for name, value in _shown(record))
        line = f"[{len(self.rows)}/{self.total}] {trial.label:<32} {record['status']:<6} {values}  left {self._left()}"
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _left(self) -> str:
        done = len(self.rows)
        return f"{(time.time() - self.started) / done * (self.total - done) / 60:.1f} min" if done else "?"

    def _table(self) -> Table:
        best = max((_value(record) for _, record in self.rows), default=None)
        table = Table(title=f"{len(self.rows)} of {self.total} trials, {self._left()} left", title_justify="left")
        table.add_column("trial")
        table.add_column("state")
        for name in ("HR@1", "valid", "exact HR@1", "seconds"):
            table.add_column(name, justify="right")
        for label, record in self.rows:
            style = "bold green" if _value(record) == best and record["status"] == "done" else None
            table.add_row(label, record["status"], *(value for _, value in _shown(record, pad=True)), style=style)
        return table


def _value(record: dict[str, Any]) -> float:
    return float(record.get("metrics", {}).get("validation", {}).get("exact_hr@1", float("-inf")))


def _shown(record: dict[str, Any], pad: bool = False) -> list[tuple[str, str]]:
    """Test metrics and time of a finished trial, the last line of the error of a failed one."""
    if record["status"] != "done":
        lines = (record.get("error") or "").strip().splitlines()
        return [("error:", lines[-1][:120] if lines else "?")] + [("", "")] * (3 if pad else 0)
    test = record["metrics"].get("test") or record["metrics"]["validation"]
    names = {"generated_hr@1": "HR@1", "valid_ratio": "valid", "exact_hr@1": "exact"}
    shown = [(short, f"{test[name]:.3f}" if name in test else "-") for name, short in names.items()]
    return [*shown, ("s", f"{record['seconds']:.0f}" if record.get("seconds") else "-")]
