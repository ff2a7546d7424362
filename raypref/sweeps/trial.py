"""A sweep's trial in a process of Tune's: it trains, or starts a Ray Train group that does.

Imports no optuna: each trial's process pays for what stands here.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.train import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback

from raypref.cluster.faults import METRIC, SHARE
from raypref.cluster.train_group import fit
from raypref.errors import UserError
from raypref.evaluation.splits import choosing_split
from raypref.stages.stage import Chain
from raypref.storage.lease import leased
from raypref.storage.store import Store, write_json
from raypref.sweeps.board import open_board, tag_name, tags_of
from raypref.sweeps.space import Trial
from raypref.sweeps.trial_records import done_fields, failed, file_name, new_record, now, overhead, record_path

ASSIGNMENT = "trial"  # of Tune's config for a trial
STOP_S = 30  # what Tune waits for a stopped trial to end, before it starts a new process for the next


@dataclass(frozen=True)
class Assignment:
    """A trial as its process gets it, beside the setting; shown by its name where Tune shows a config."""

    trial: Trial
    asked: float
    """When the driver asked for it, in seconds since the epoch."""

    def __repr__(self) -> str:
        return self.trial.label


def point_of(trial: Trial) -> dict[str, Any]:
    """What Tune knows of a trial: the setting itself, under the last part of each key where that tells them apart."""
    names = [tag_name(key) for key in trial.params]
    setting = {n if names.count(n) == 1 else key: value for n, (key, value) in zip(names, trial.params.items())}
    return {**setting, "seed": trial.seed, ASSIGNMENT: Assignment(trial, time.time())}


def run_trial(point: dict[str, Any], folder: str, root: str, sweep: str, threads: int) -> None:
    """Train and evaluate one setting; runs in a Tune process, which may run others before and after."""
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(STOP_S))
    trial, asked, store = point[ASSIGNMENT].trial, point[ASSIGNMENT].asked, Store(root)
    record = new_record(trial) | {"status": "running", "started": now()}

    def note(content: dict[str, Any]) -> None:
        path = record_path(store.root / folder, trial.id)
        write_json(path, content)
        store.send(path)

    note(record)
    run = trial.chain
    alone = run.config.resources.workers == 1
    try:
        done_before = all(store.done(stage.address) for stage in run.own)
        if alone:
            _run_missing(run, store, threads)
        with leased(store, *(stage.address for stage in run.own)), open_board(trial.label, tags_of(trial, sweep)):
            facts = fit(
                run,
                run.own,
                store,
                name=file_name(trial),
                report=_report,
                callbacks=[] if alone else [TuneReportCallback()],
                threads=threads,
                board=trial.label,
            )
    except (UserError, TrainingFailedError) as error:  # of this setting, or tried again by Train as often as it may
        note(failed(record, error))
        return
    except Exception as error:
        note(failed(record, error))
        raise  # Tune may try again
    ended = time.time()
    record |= done_fields(facts) | {"seconds": round(ended - asked, 2), "ended": now()}
    note(record if done_before else record | overhead(record, facts, asked, ended))
    validation = record["metrics"][choosing_split(record["metrics"])]
    tune.report({METRIC: validation.get("exact_hr@1", validation.get("generated_hr@1"))})


def _report(metrics: dict[str, Any]) -> None:
    """A validation, to Tune; the last one without its share, as that trial is as good as done."""
    print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
    tune.report({name: value for name, value in metrics.items() if name != SHARE or value < 1})


def _run_missing(run: Chain, store: Store, threads: int) -> None:
    """Stages before a trial's own that a search's setting is the first to need, with the trial's CPUs or GPU."""
    missing = [stage for stage in run.shared if not store.done(stage.address)]
    if missing:
        import torch

        from raypref.stages.in_process import InProcess

        torch.set_num_threads(threads)
        for stage in missing:
            InProcess(store)(run, stage)
