"""Where a training stage stands: its step, its checkpoints, its best weights, its log."""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from raypref.errors import UserError
from raypref.storage.sharing import POINTER
from raypref.storage.store import disk_faults, file_digest, sync, write_atomic, write_json
from raypref.training.tasks import Task

if TYPE_CHECKING:
    from raypref.training.engine import Engine

logger = logging.getLogger(__name__)

BETTER = {"loss": -1.0, "hr@1": 1.0}
OWNER = "owner"
LOGS = ("metrics", "validation")


class Progress:
    """State of a stage in its scratch folder; a new one takes up where the last whole checkpoint left it.

    Layout: `step-000200/` (engine and objective state) of the last two checkpoints, `checkpoint.json` (names them, the
    later first, with a digest of each of their files; replaced atomically), `kept-000200/` (weights to publish),
    `metrics.jsonl` and `validation.jsonl`, `owner` (the attempt that may write here).
    """

    def __init__(self, folder: Path, engine: Engine, task: Task) -> None:
        self.folder, self.engine, self.task = folder, engine, task
        self.step = 0
        self.kept: dict[str, Any] = {}
        self.resumed_at: list[int] = []
        """Steps at which attempts after the first took up the work."""
        self._before = 0.0
        self.began: float | None = None
        """When this attempt had its first batch, in seconds since the epoch."""
        self._clock = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._owner = uuid.uuid4().hex
        if engine.rank == 0:
            (folder / OWNER).write_text(self._owner)
        self.checkpoints = self._whole_ones()
        if self.checkpoints:
            self._load(self.checkpoints[0])
        elif engine.rank == 0:
            for name in LOGS:
                (folder / f"{name}.jsonl").unlink(missing_ok=True)
        _barrier()  # nobody trains on before rank 0 has tidied up

    def begin(self) -> None:
        """Training begins, for the first time in this attempt: its data have come."""
        if self.began is None:
            self.began, self._clock = time.time(), time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent in training up to now, in all attempts; what was lost between a checkpoint and a death is left out."""
        return self._before if self.began is None else self._before + time.perf_counter() - self._clock

    def kept_folder(self) -> Path:
        """The weights to publish."""
        return kept_folder(self.folder, self.kept["kept_step"])

    def _whole_ones(self) -> list[dict[str, Any]]:
        """Checkpoints from the last one whose files are all as they were written; rank 0 looks, for all."""
        listed = self._listed()
        damaged = 0
        if self.engine.rank == 0:
            for checkpoint in listed:
                if self._is_whole(checkpoint):
                    break
                logger.warning("checkpoint %s is damaged: the one before it is taken", checkpoint["folder"])
                damaged += 1
        first = torch.tensor(damaged, device=self.engine.device)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(first, 0)
        return listed[int(first) :]

    def _listed(self) -> list[dict[str, Any]]:
        try:
            listed: list[dict[str, Any]] = json.loads((self.folder / POINTER).read_text())["checkpoints"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            if self.engine.rank == 0:
                logger.warning("%s is damaged: training begins anew", POINTER)
            return []
        return listed

    def _is_whole(self, checkpoint: dict[str, Any]) -> bool:
        folder = self.folder / checkpoint["folder"]
        files = {folder / name: digest for name, digest in checkpoint["files"].items()}
        return all(path.is_file() and file_digest(path) == digest for path, digest in files.items())

    def _load(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["engine"] != self.engine.layout:
            raise UserError(
                f"this training was begun with {checkpoint['engine']}, and can't go on with {self.engine.layout}",
                where=str(self.folder),
                hint="give the same resources.engine, zero_stage and workers, or delete that folder to begin anew",
            )
        folder = self.folder / checkpoint["folder"]
        self.engine.load_state(folder)
        state = torch.load(folder / "objective.pt", map_location=self.engine.device, weights_only=True)
        self.task.state.update(state)
        self.step, self.kept, self._before = checkpoint["step"], checkpoint["kept"], checkpoint["seconds"]
        self.resumed_at = [*checkpoint["resumed_at"], self.step]
        if self.engine.rank == 0:
            for name in LOGS:
                self._forget_later_lines(self.folder / f"{name}.jsonl")
            for path in self.folder.glob("kept-*"):
                if path.name > kept_folder(self.folder, self.kept.get("kept_step", 0)).name:
                    shutil.rmtree(path, ignore_errors=True)

    def _forget_later_lines(self, path: Path) -> None:
        """Lines after the checkpoint will be written again; a death may have cut the last one short."""
        if not path.is_file():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if row["step"] >= self.step:
                break
            kept.append(line + "\n")
        write_atomic(path, lambda temporary: temporary.write_text("".join(kept)), synced=False)

    def _check_owner(self) -> None:
        """A worker that is cut off from the cluster lives on for a while: it must not write where its successor does.

        Raises:
            RuntimeError: a later attempt has taken this work over.
        """
        if (self.folder / OWNER).read_text() != self._owner:
            raise RuntimeError(f"a later attempt has taken over the work in {self.folder}")

    def log(self, name: str, row: dict[str, Any]) -> None:
        """One line of `<name>.jsonl`, by rank 0."""
        if self.engine.rank == 0:
            self._check_owner()
            with disk_faults(self.folder), (self.folder / f"{name}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """A checkpoint (collective); of those before, the last one stays in case this one can't be read."""
        name = f"step-{self.step:06d}"
        folder = self.folder / name
        before = self.checkpoints[:1]
        with disk_faults(self.folder):
            if self.engine.rank == 0:
                self._check_owner()
                self._drop("step-*", {checkpoint["folder"] for checkpoint in before})
                folder.mkdir(parents=True)
            _barrier()
            self.engine.save_state(folder)
            if self.engine.rank == 0:
                torch.save(self.task.state, folder / "objective.pt")
        _barrier()
        checkpoint = {
            "step": self.step,
            "folder": name,
            "kept": self.kept,
            "seconds": round(self.seconds, 2),
            "resumed_at": self.resumed_at,
            "engine": self.engine.layout,
        }
        if self.engine.rank == 0:
            with disk_faults(self.folder):
                sync(self.folder)
                files = sorted(path for path in folder.rglob("*") if path.is_file())
                checkpoint["files"] = {str(path.relative_to(folder)): file_digest(path) for path in files}
                write_json(self.folder / POINTER, {"checkpoints": [checkpoint, *before]})
            steps = [kept["kept_step"] for kept in (self.kept, *(c["kept"] for c in before)) if kept]
            self._drop("kept-*", {kept_folder(self.folder, step).name for step in steps})
        self.checkpoints = [checkpoint, *before]

    def _drop(self, pattern: str, but: set[str]) -> None:
        for path in self.folder.glob(pattern):
            if path.name not in but:
                shutil.rmtree(path, ignore_errors=True)

    def validated(self, metrics: dict[str, float], keep: str) -> None:
        """Log a validation; keep these weights if they are the best so far by `keep` (collective)."""
        self.log("validation", {"step": self.step - 1, **metrics})
        if keep == "last":
            return
        value = metrics[keep]
        if not self.kept or BETTER[keep] * (value - self.kept["validation"][keep]) > 0:
            self.keep(metrics)

    def keep(self, metrics: dict[str, float] | None = None) -> None:
        """These weights are the ones to publish (collective); those before go with the next checkpoint."""
        target = kept_folder(self.folder, self.step)
        with disk_faults(self.folder):
            if self.engine.rank == 0:
                self._check_owner()
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
            _barrier()
            self.engine.export(target)
        self.kept = {"kept_step": self.step, "validation": metrics or {}}


def kept_folder(scratch: Path, step: int) -> Path:
    """Where the weights lie that were kept after `step` steps."""
    return scratch / f"kept-{step:06d}"


def _barrier() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
