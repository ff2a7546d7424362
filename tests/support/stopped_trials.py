"""A script: Tune trials with a TrialTrainer each, in one process, in which something happens to their workers.

python -m tests.support.stopped_trials FOLDER     # writes FOLDER/seen.json
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from raypref.sweeps.runtime import connect  # isort: skip  # before ray

import ray
import ray.train
import torch
from ray import tune
from ray.util.state import list_actors, list_placement_groups

from raypref.stages.elastic import ElasticConfig
from raypref.sweeps import kept_workers
from raypref.sweeps.kept_workers import Kept
from raypref.sweeps.shared_stages import StageRunner
from raypref.sweeps.trial_trainer import ReportToTune, TrialTrainer

STOPPED, FIRST, SECOND, AFTER_DEATH, WAITS, OF_TWO, ELASTIC, LEAVES_WEIGHTS, LAST = range(9)
BEFORE = LAST + 1  # in an actor, whose workers the first trial gets
REPORTS = 3
PATIENT = kept_workers.KEEP_S


def work(given: dict[str, Any]) -> None:
    """A worker that reports, and, in the trial that is to be stopped, would never end."""
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        note(given["folder"], "worker", given["trial"])
        Path(given["folder"], f"size-{given['trial']}").write_text(str(context.get_world_size()))
    if given["trial"] == LEAVES_WEIGHTS:
        import builtins

        builtins.held = torch.nn.Linear(2, 2)  # type: ignore[attr-defined]
    for number in range(REPORTS):
        ray.train.report({"number": number})
    while given["trial"] == STOPPED:
        time.sleep(0.1)


def note(folder: str, kind: str, number: int) -> None:
    with Path(folder, f"{kind}-{number}").open("a") as pids:
        pids.write(f"{os.getpid()}\n")


class Before(StageRunner):
    """Trains before the trials."""

    def train(self, folder: str) -> Kept | None:
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
        fit({"trial": BEFORE}, folder, [])
        return self.give()


def trial(point: dict[str, Any], folder: str, kept: Kept) -> None:
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
    if point["trial"] == STOPPED:
        kept_workers.keep(kept)
    note(folder, "trial", point["trial"])
    if point["trial"] == AFTER_DEATH:
        os.kill(int(Path(folder, f"worker-{SECOND}").read_text()), signal.SIGKILL)
    if point["trial"] == WAITS:  # for something that needs what the kept group holds
        everything = ray.cluster_resources()["CPU"]
        ray.get(ray.remote(num_cpus=everything, scheduling_strategy="DEFAULT")(lambda: None).remote())
    kept_workers.KEEP_S = 5.0 if point["trial"] == AFTER_DEATH else PATIENT
    fit(point, folder, [ReportToTune()])
    tune.report({"number": REPORTS})


def fit(point: dict[str, Any], folder: str, callbacks: list[Any]) -> None:
    TrialTrainer(
        work,
        train_loop_config={**point, "folder": folder},
        scaling_config=scaling_of(point["trial"]),
        run_config=ray.train.RunConfig(
            name=f"trial-{point['trial']}", storage_path=f"{folder}/train", callbacks=callbacks
        ),
    ).fit()


def scaling_of(trial: int) -> Any:
    workers: Any = {OF_TWO: 2, ELASTIC: (1, 3)}.get(trial, 1)
    if trial == ELASTIC:  # three find room on four CPUs, and no three share its batches
        return ElasticConfig(num_workers=workers, sizes=(1, 2), resources_per_worker={"CPU": 1})
    return ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1})


def stops(trial_id: str, result: dict[str, Any]) -> bool:
    return bool(result["config"]["trial"] == STOPPED and result["number"] == 1)


def left_over() -> list[str]:
    """Training workers and cleaners that live, placement groups that are not removed."""
    alive = [actor.class_name for actor in list_actors(filters=[("state", "=", "ALIVE")])]
    workers = [name for name in alive if name in ("RayTrainWorker", "_QuietCleaner")]
    return workers + [group.state for group in list_placement_groups() if group.state != "REMOVED"]


def open_ports() -> list[str]:
    """Of this machine's Ray: what listens to more than the machine itself."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            others = [at for at in listening if at.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
            found += [f"{process.name()} {at.ip}:{at.port}" for at in others]
    return found


def run(folder: Path) -> dict[str, Any]:
    connect()
    before: Any = ray.remote(num_cpus=0)(Before).remote()
    kept = ray.get(before.train.remote(str(folder)))
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, folder=str(folder), kept=kept), {"CPU": 0, "memory": 1 << 20}),
        param_space={"trial": tune.grid_search(list(range(LAST + 1)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), stop=stops, verbose=0),
    ).fit()
    ray.kill(before)
    deadline = time.monotonic() + 60
    while left_over() and time.monotonic() < deadline:
        time.sleep(0.5)
    listening = open_ports()
    numbers = {result.config["trial"]: result.metrics["number"] for result in results}
    return {
        "last": [numbers[i] for i in range(LAST + 1)],
        "left": left_over(),
        "open": listening,
        "errors": len(results.errors),
    }


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "seen.json").write_text(json.dumps(run(where)))
