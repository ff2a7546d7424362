"""Finished trials in TensorBoard, MLflow or Weights & Biases too (`--mirror`): copies, which nothing here reads."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raypref.errors import UserError
from raypref.storage.store import Store
from raypref.sweeps.space import Trial
from raypref.sweeps.trial_records import file_name

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


class Tracker:
    """Is told of the trials as they end; writes those that ended well."""

    def __init__(self, kind: str, folder: Path, store: Store) -> None:
        try:
            self.package: Any = importlib.import_module(PACKAGES[kind])
        except ImportError as error:
            hint = f"pip install 'raypref[{kind}]', or leave --mirror {kind} out"
            raise UserError(f"{PACKAGES[kind]} is not installed", where=f"--mirror {kind}", hint=hint) from error
        self.kind, self.folder, self.store = kind, folder, store

    def started(self, trial: Trial) -> None:
        """Nothing: a mirror is written once a trial has ended."""

    def ended(self, trial: Trial, record: dict[str, Any]) -> None:
        """Settings, training curve and scores of a trial that ended well."""
        if record["status"] != "done":
            return
        params: dict[str, Any] = {**trial.params, "method": trial.method, "seed": trial.seed}
        steps = list(_steps(self.store.path(trial.chain.trained.address) / "metrics.jsonl"))
        scores = {
            f"{split}/{name}": float(value)
            for split, metrics in record["metrics"].items()
            for name, value in metrics.items()
            if isinstance(value, (int, float))
        }
        getattr(self, f"_{self.kind}")(trial, params, steps, scores)

    def _tensorboard(self, trial: Trial, params: dict[str, Any], steps: list[Any], scores: dict[str, float]) -> None:
        with self.package.SummaryWriter(str(self.folder / "tensorboard" / file_name(trial))) as writer:
            for step, values in steps:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)
            last = steps[-1][0] if steps else 0
            for name, value in scores.items():
                writer.add_scalar(name, value, last)
            writer.add_hparams(params, scores)

    def _mlflow(self, trial: Trial, params: dict[str, Any], steps: list[Any], scores: dict[str, float]) -> None:
        """To MLFLOW_TRACKING_URI, else into the sweep's folder: a submitted job's working directory goes with it."""
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self.package.set_tracking_uri(f"sqlite:///{self.folder.absolute() / 'mlflow.db'}")
        self.package.set_experiment(self.folder.name)
        with self.package.start_run(run_name=trial.label):
            self.package.log_params(params)
            for step, values in steps:
                self.package.log_metrics({_plain(name): value for name, value in values.items()}, step=step)
            self.package.log_metrics({_plain(name): value for name, value in scores.items()})

    def _wandb(self, trial: Trial, params: dict[str, Any], steps: list[Any], scores: dict[str, float]) -> None:
        with self.package.init(
            project=os.environ.get("WANDB_PROJECT", "raypref"), group=self.folder.name, name=trial.label, config=params,
            dir=str(self.folder),
        ) as run:  # fmt: skip
            for step, values in steps:
                run.log(values, step=step)
            run.summary.update(scores)


def _steps(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and their numbers, from an alignment's log."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        row = json.loads(line)
        yield int(row["step"]), {k: float(v) for k, v in row.items() if k != "step" and isinstance(v, (int, float))}


def _plain(name: str) -> str:
    """A name that MLflow takes: it has no place for an at sign."""
    return name.replace("@", "_at_")
