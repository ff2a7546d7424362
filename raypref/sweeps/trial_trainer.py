"""A trial's Ray Train group without processes of its own for its controller and for its reports.

Ray starts a process for each controller, four seconds of importing, and one for a queue between it and Tune. Both can
be the trial's own process, which Tune keeps for the next trial. Stopping and dying are as they were: workers belong to
the trial's actor, and Ray's cleaner of placement groups watches it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ray import tune
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller.state import FinishedState, ShuttingDownState
from ray.train.v2.api.callback import UserCallback

STOP_S = 30  # what Tune waits for a stopped trial's workers to be gone, before it starts a new process for the next


class TrialTrainer(TorchTrainer):
    """A TorchTrainer for use inside a Tune trial: its controller runs in the calling thread."""

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(STOP_S))
        controller = TrainController(**parts)
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
