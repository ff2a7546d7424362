"""A sweep's trials under Ray Tune: Optuna proposes, each trial is a Tune function that runs a Ray Train group."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.optuna import OptunaSearch

from raypref.config import RunConfig
from raypref.config.loading import dump
from raypref.errors import UserError
from raypref.stages.chain import chain
from raypref.stages.on_ray import fit
from raypref.stages.remote import METRIC
from raypref.store import Store, write_json
from raypref.sweeps.space import Trial

Listener = Callable[[Trial, dict[str, Any]], None]


def run_trials(
    trials: Sequence[Trial], store: Store, folder: Path, name: str, concurrent: int, verbose: bool, on_end: Listener
) -> None:
    """Run trials, `concurrent` at a time; each leaves a record in `folder/trials`, and a failed one stops no other."""
    by_number = {trial.number: trial for trial in trials}
    numbers = [trial.number for trial in trials]
    optuna.logging.set_verbosity(optuna.logging.INFO if verbose else optuna.logging.WARNING)
    search = OptunaSearch(
        {"trial": optuna.distributions.CategoricalDistribution(tuple(numbers))},
        metric=METRIC,
        mode="max",
        points_to_evaluate=[{"trial": number} for number in numbers],
    )
    arguments = {
        number: {
            "config": dump(trial.chain.config),
            "record": _record(trial),
            "path": str(record_path(folder, trial)),
            "root": str(store.root),
            "threads": threads_per_worker(trial.chain.config, concurrent),
        }
        for number, trial in by_number.items()
    }
    trainable = tune.with_resources(tune.with_parameters(_trial, arguments=arguments), {"CPU": 0, "memory": 1 << 20})
    names = {number: _file_name(trial) for number, trial in by_number.items()}
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=len(numbers),
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=lambda t: names[t.config["trial"]],
            trial_dirname_creator=lambda t: names[t.config["trial"]],
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(store.root / ".ray-tune"),
            verbose=1 if verbose else 0,
            callbacks=[_OnEnd(by_number, folder, on_end)],
        ),
    )
    tuner.fit()


def _trial(point: dict[str, Any], arguments: dict[int, dict[str, Any]]) -> None:
    """Train and evaluate one setting in one Ray Train group; runs in a Tune process of its own."""
    given = arguments[point["trial"]]
    started = time.time()
    record = given["record"] | {"status": "running", "started": _now()}
    path, store = Path(given["path"]), Store(given["root"])
    write_json(path, record)
    try:
        run = chain(RunConfig.model_validate(given["config"]))
        facts = fit(
            run,
            list(run.own),
            store,
            name=record["file_name"],
            callbacks=[TuneReportCallback()],
            threads=given["threads"],
        )
    except Exception as error:
        what = str(error) if isinstance(error, UserError) else traceback.format_exc(limit=-3)
        write_json(path, record | {"status": "failed", "error": what, "ended": _now()})
        raise
    record |= done_fields(facts) | {"seconds": round(time.time() - started, 2), "ended": _now()}
    write_json(path, record)
    validation = facts["evaluate"].get("validation") or facts["evaluate"]["test"]
    tune.report({METRIC: validation["exact_hr@1"]})


class _OnEnd(tune.Callback):
    """Tells the driver's listener of each trial that ended, well or badly."""

    def __init__(self, trials: dict[int, Trial], folder: Path, listener: Listener) -> None:
        self.trials, self.folder, self.listener = trials, folder, listener

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks; a listener may hold a terminal, which can't be saved."""
        return self.__dict__ | {"listener": lambda trial, record: None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trial)

    def _tell(self, tune_trial: Any) -> None:
        trial = self.trials[tune_trial.config["trial"]]
        record = read_record(self.folder, trial)
        if record.get("status") not in ("done", "failed"):  # its process died before it could say so
            lost = {"status": "failed", "error": "the trial's process died: see Ray's logs", "ended": _now()}
            record = _record(trial) | record | lost
            write_json(record_path(self.folder, trial), record)
        self.listener(trial, record)


def concurrency(config: RunConfig) -> int:
    """Trials at once: what the config says, else as many as the cluster's GPUs, or cores, hold."""
    resources = config.resources
    if resources.concurrent_trials is not None:
        return resources.concurrent_trials
    if resources.gpus_per_worker:
        held = ray.cluster_resources().get("GPU", 0) / (resources.gpus_per_worker * resources.workers)
        return max(1, int(held))
    nodes = [node for node in ray.nodes() if node["Alive"]]
    cores = (os.cpu_count() or 1) if len(nodes) == 1 else int(ray.cluster_resources().get("CPU", 1))
    return max(1, int(cores / (resources.workers * resources.cpus_per_worker)))


def threads_per_worker(config: RunConfig, concurrent: int) -> int:
    """Torch threads of each worker, so that all that run at once share this machine's cores."""
    return config.resources.threads or max(1, (os.cpu_count() or 1) // (concurrent * config.resources.workers))


def done_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """What a finished trial's record says of its stages: what was trained, if anything, and the evaluation."""
    trained: dict[str, Any] = next((found for kind, found in facts.items() if kind != "evaluate"), {})
    return {
        "status": "done",
        "error": None,
        "train_seconds": trained.get("train_seconds"),
        "evaluate_seconds": facts["evaluate"]["evaluate_seconds"],
        "peak_memory_gb": trained.get("peak_memory_gb"),
        "metrics": {split: facts["evaluate"][split] for split in ("validation", "test") if split in facts["evaluate"]},
    }


def finished_before(trial: Trial, store: Store, folder: Path) -> dict[str, Any] | None:
    """The record of a trial whose addresses are all done, whoever computed them; None if there is work left."""
    run = trial.chain
    if not all(store.done(stage.address) for stage in run.own):
        return None
    record = read_record(folder, trial)
    if record.get("status") == "done":
        return record
    facts = {stage.kind: store.manifest(stage.address)["facts"] for stage in run.own}
    record = _record(trial) | done_fields(facts) | {"seconds": None, "started": None, "ended": _now()}
    write_json(record_path(folder, trial), record)
    return record


def record_path(folder: Path, trial: Trial) -> Path:
    return folder / "trials" / f"{trial.id}.json"


def read_record(folder: Path, trial: Trial) -> dict[str, Any]:
    """A trial's record, empty where there is none that belongs to it."""
    try:
        record: dict[str, Any] = json.loads(record_path(folder, trial).read_text())
    except (OSError, ValueError):
        return {}
    return record if record.get("evaluate") == str(trial.chain.evaluate.address) else {}


def _record(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.id,
        "label": trial.label,
        "file_name": _file_name(trial),
        "params": dict(trial.params),
        "seed": trial.seed,
        "align": str(trial.chain.trained.address),
        "evaluate": str(trial.chain.evaluate.address),
    }


def _file_name(trial: Trial) -> str:
    """The label as a folder's name: `recpo-lambda=2-seed=1-0f3a...`."""
    settings = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in trial.params.items()]
    return "-".join([*filter(None, [trial.heading]), *settings, f"seed={trial.seed}", trial.id])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
