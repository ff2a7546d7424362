"""A trial's Ray Train group without processes of its own for its controller, its reports and its stream.

Ray starts a process for each controller, four seconds of importing, one for a queue between it and Tune, one for its
data sets. All can be the trial's own process, which Tune keeps for the next trial; and with it the workers are kept
(see kept_workers.py). Stopping and dying are as they were: workers belong to the trial's actor, and Ray's cleaner of
placement groups watches it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from ray import tune
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.controller.state import FinishedState, ShuttingDownState
from ray.train.v2.api.callback import UserCallback

from raypref.stages.elastic import whole_shares
from raypref.sweeps.kept_workers import KeepingController, KeptTorchConfig, keeping

STOP_S = 30  # what Tune waits for a stopped trial's workers to be gone, before it starts a new process for the next


class TrialTrainer(TorchTrainer):
    """A TorchTrainer for use inside a Tune trial: its controller runs in the calling thread, its workers are kept."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, torch_config=KeptTorchConfig(), **more)

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        base, this = cast(Any, super()), cast(Any, self)  # the stubs are those of the V1 class
        return keeping(base._create_default_callbacks(), this.datasets, this.train_run_context)

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(STOP_S))
        controller = KeepingController(**whole_shares(parts))
        try:
            asyncio.run(controller.run())
        except SystemExit:  # Tune stops the trial, by way of `tune.report`: no worker may outlive it
            controller._set_state(ShuttingDownState(next_state=FinishedState()))
            asyncio.run(controller.run())
            raise
        return controller.get_result()


class ReportToTune(UserCallback):
    """Passes rank 0's reports on to Tune, which may stop the trial there."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        tune.report(metrics[0])
