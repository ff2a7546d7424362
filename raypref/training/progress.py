"""Where a training stage stands: its step, its checkpoints, its best weights, its log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from raypref.store import disk_faults, write_json
from raypref.training.engine import Engine

if TYPE_CHECKING:
    from raypref.training.loop import Task

BETTER = {"loss": -1.0, "hr@1": 1.0}


class Progress:
    """State of a stage in its scratch folder; a new one takes up where the last checkpoint left it.

    Layout: `step-000200/` (engine and objective state), `checkpoint.json` (names the valid one, replaced atomically),
    `kept/` (weights to publish), `metrics.jsonl` and `validation.jsonl`.
    """

    def __init__(self, folder: Path, engine: Engine, task: Task) -> None:
        self.folder, self.engine, self.task = folder, engine, task
        self.step = 0
        self.kept: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        pointer = folder / "checkpoint.json"
        if pointer.is_file():
            self._load(json.loads(pointer.read_text()))
        elif engine.rank == 0:
            for name in ("metrics", "validation"):
                (folder / f"{name}.jsonl").unlink(missing_ok=True)

    def _load(self, pointer: dict[str, Any]) -> None:
        checkpoint = self.folder / pointer["folder"]
        self.engine.load_state(checkpoint)
        state = torch.load(checkpoint / "objective.pt", map_location=self.engine.device, weights_only=True)
        self.task.state.update(state)
        self.step, self.kept = pointer["step"], pointer["kept"]
        if self.engine.rank == 0:
            for name in ("metrics", "validation"):
                self._forget_later_lines(self.folder / f"{name}.jsonl")

    def _forget_later_lines(self, path: Path) -> None:
        """Lines after the checkpoint will be written again."""
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] < self.step]
            path.write_text("".join(line + "\n" for line in lines))

    def log(self, name: str, row: dict[str, Any]) -> None:
        """One line of `<name>.jsonl`, by rank 0."""
        if self.engine.rank == 0:
            with (self.folder / f"{name}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """A checkpoint (collective); the one before goes when this one is whole."""
        name = f"step-{self.step:06d}"
        folder = self.folder / name
        if self.engine.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
        _barrier()
        with disk_faults(self.folder):
            self.engine.save_state(folder)
            if self.engine.rank == 0:
                torch.save(self.task.state, folder / "objective.pt")
        _barrier()
        if self.engine.rank == 0:
            write_json(self.folder / "checkpoint.json", {"step": self.step, "folder": name, "kept": self.kept})
            for old in self.folder.glob("step-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)

    def validated(self, metrics: dict[str, float], keep: str) -> None:
        """Log a validation; keep these weights if they are the best so far by `keep` (collective)."""
        self.log("validation", {"step": self.step - 1, **metrics})
        if keep == "last":
            return
        value = metrics[keep]
        if not self.kept or BETTER[keep] * (value - self.kept["validation"][keep]) > 0:
            self.keep(metrics)

    def keep(self, metrics: dict[str, float] | None = None) -> None:
        """These weights are the ones to publish (collective)."""
        target = self.folder / "kept"
        if self.engine.rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
        _barrier()
        with disk_faults(self.folder):
            self.engine.export(target)
        self.kept = {"kept_step": self.step, "validation": metrics or {}}


def _barrier() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
