"""The trials as they go: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raypref.evaluation.splits import choosing_split, reported_split
from raypref.narration import Narrator
from raypref.results.records import reason
from raypref.storage.headway import duration, headway
from raypref.storage.store import Store
from raypref.sweeps.space import Trial

MOST_ROWS = 30  # of a live table: a taller one than the terminal can't be drawn again in place


class LiveTable:
    """Shows what runs, what ended, the best so far, the share done, and how long the rest will take."""

    def __init__(self, console: Console, total: int, store: Store | None = None) -> None:
        """`store`: where trials that run tell how far they have come; None: nobody asks."""
        self.console, self.total, self.store = console, total, store
        self.narrator, self.telling = Narrator(console), contextlib.ExitStack()
        self.rows: list[tuple[Trial, dict[str, Any]]] = []
        self.running: dict[str, tuple[Trial, float]] = {}
        self.begun = time.time()
        self.live = (
            Live(get_renderable=self._shown, console=console, refresh_per_second=1) if console.is_terminal else None
        )

    def __enter__(self) -> LiveTable:
        if self.live:
            self.live.start()
        else:
            self.telling.enter_context(self.narrator.during(self._running))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.telling.close()
        if self.live:
            self.live.stop()

    def started(self, trial: Trial) -> None:
        """A trial is about to run."""
        self.running[trial.id] = (trial, time.time())

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        """A trial ended, well or badly."""
        self.running.pop(trial.id, None)
        self.rows.append((trial, record))
        if self.live:
            return
        values = "  ".join(f"{name} {value}" for name, value in _values(record))
        best = self.best()
        said = f"  best {best}" if best else ""
        line = f"[{self.share()}] {trial.label:<32} {record['status']:<6} {values}  left {self.left()}{said}"
        self.narrator(line)

    def share(self) -> str:
        return f"{len(self.rows)}/{self.total}, {len(self.rows) / max(1, self.total):.0%}"

    def left(self) -> str:
        """Time left, from the trials that ended and how many ran at once."""
        done = len(self.rows)
        return f"{(time.time() - self.begun) / done * max(0, self.total - done) / 60:.1f} min" if done else "?"

    def best(self) -> str:
        """The finished trial with the best exact HR@1 on validation."""
        done = [(trial, record) for trial, record in self.rows if record["status"] == "done"]
        if not done:
            return ""
        trial, record = max(done, key=lambda row: _value(row[1]))
        return f"{trial.label} ({_value(record):.3f} on validation)"

    def _state(self, trial: Trial) -> str:
        """How far a trial that runs has come."""
        if self.store is None:
            return "runs"
        told = ((stage.kind, headway(self.store, stage.address)) for stage in (*trial.chain.shared, *trial.chain.own))
        return next((f"{kind} {state}" for kind, state in told if state is not None), "runs")

    def _running(self) -> str:
        """All trials that run, on a line."""
        running = [
            f"{trial.label}: {self._state(trial)}, {duration(time.time() - since)}"
            for trial, since in list(self.running.values())
        ]
        return f"[{self.share()}] " + ("; ".join(running) or "starting trials")

    def _shown(self) -> Group:
        table = Table(title_justify="left")
        table.add_column("trial")
        table.add_column("state")
        for name in ("HR@1", "valid", "exact HR@1", "seconds"):
            table.add_column(name, justify="right")
        best = self.best()
        ended = self.rows[-max(1, MOST_ROWS - len(self.running)) :]
        if len(ended) < len(self.rows):
            table.add_row(f"... {len(self.rows) - len(ended)} before", *[""] * 5)
        for trial, record in ended:
            style = "bold green" if best.startswith(f"{trial.label} (") else None
            cells = [value for _, value in _values(record)]
            table.add_row(trial.label, record["status"], *cells, *[""] * (4 - len(cells)), style=style)
        for trial, since in self.running.values():
            table.add_row(trial.label, self._state(trial), "", "", "", f"{time.time() - since:.0f}", style="dim")
        bar = ProgressBar(total=max(1, self.total), completed=len(self.rows), width=40)
        line = f"{self.share()} of the trials, {self.left()} left" + (f"; best so far: {best}" if best else "")
        return Group(table, bar, Text(line))


def _value(record: dict[str, Any]) -> float:
    """What the best is chosen by."""
    metrics = record.get("metrics", {})
    return float(metrics.get(choosing_split(metrics), {}).get("exact_hr@1", float("-inf")))


def _values(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Test metrics and time of a finished trial, the reason of another."""
    if record["status"] != "done":
        return [("why:", reason(record.get("error"))[:120])]
    test = record["metrics"][reported_split(record["metrics"])]
    names = {"generated_hr@1": "HR@1", "valid_ratio": "valid", "exact_hr@1": "exact"}
    shown = [(short, f"{test[name]:.3f}" if name in test else "-") for name, short in names.items()]
    return [*shown, ("s", f"{record['seconds']:.0f}" if record.get("seconds") else "-")]
