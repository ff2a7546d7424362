"""The Ray cluster: joined if there is one, started on this machine if there is none; quiet unless asked."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from raypref.cluster.head import (
    FEWER_WARNINGS,
    MIN_LOGICAL_CPUS,
    ON_LOOPBACK,
    PATIENCE,
    check_address,
    free_port,
    token_without_home,
)
from raypref.cores import usable_cores

if not os.environ.get("RAY_ADDRESS"):  # Ray reads these when it is imported, not when it starts
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    token_without_home()
    os.environ.setdefault(*ON_LOOPBACK)
    for variable in PATIENCE.items():
        os.environ.setdefault(*variable)

import ray
from ray.job_config import JobConfig

from raypref.errors import UserError
from raypref.provenance import SUBMITTED


def quiet() -> None:
    """Ray's, Tune's and Optuna's own chatter off; must precede their start."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # prints would come twice
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's boxes, at any verbosity
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "60")  # half a second is no news where cores are few
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import ray.data  # noqa: F401  # sets the levels of its own loggers when it is imported

    for name in ("ray", "ray.tune", "ray.train", "ray.data", "optuna"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it warns of progress bars that are off, as they are to be
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def connect(verbose: bool = False, metadata: dict[str, str] | None = None) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine with its dashboard on 127.0.0.1.

    Args:
        metadata: what the dashboard's job page says of this driver; a submitted job has its submission's instead.
    """
    if ray.is_initialized():
        return
    if not verbose:
        quiet()
    # Tune can clean up a stopped trial's workers only if it reaches the State API, which the dashboard serves.
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    options: dict[str, Any] = {"log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR"}
    if metadata and SUBMITTED not in os.environ:
        options["job_config"] = JobConfig(metadata=metadata)
    if address := os.environ.get("RAY_ADDRESS"):
        check_address(address)
        try:
            ray.init(**options)
        except ConnectionError as error:
            raise UserError(
                "no Ray cluster answers", where=f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}",
                hint="start it (`ray start --head`), or unset RAY_ADDRESS to use this machine",
            ) from error  # fmt: skip
        except Exception as error:  # Ray has no class for what it could not wait for, nor for other versions
            raise UserError(
                f"the Ray cluster can't be joined: {_first_line(error)}", where=f"RAY_ADDRESS={address}",
                hint="look at it with `ray status`, or unset RAY_ADDRESS to use this machine",
            ) from error  # fmt: skip
    else:
        port = free_port()
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        os.environ.setdefault(*FEWER_WARNINGS)
        try:
            ray.init(
                address="local",  # not one that `ray start` left traces of here
                num_cpus=max(usable_cores(), MIN_LOGICAL_CPUS),
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=port,
                **options,
            )
        except Exception as error:  # Ray has no class for what it could not wait for
            ray.shutdown()  # of what did start
            raise UserError(
                f"Ray did not start: {_first_line(error)}", where="this machine",
                hint="run it again when the machine has less to do: what is done stays; or add --no-ray (no searches)",
            ) from error  # fmt: skip


def _first_line(error: Exception) -> str:
    """What Ray says, without the log lines that may follow; the kind of error where it says nothing."""
    return next(filter(None, (line.strip() for line in str(error).splitlines())), type(error).__name__)
