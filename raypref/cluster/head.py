"""What a Ray head of this machine is started with, by a job itself or by `raypref submit`; imports nothing of Ray."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import socket
import tempfile
from pathlib import Path

from raypref.errors import UserError

MIN_LOGICAL_CPUS = 4  # Train's and Data's own processes need slots beside one or two workers
FEWER_WARNINGS = ("RAY_worker_maximum_startup_concurrency", "8")  # Train starts more processes than there are cores
# A head for this machine alone, as on a Mac: else Ray's ports are open to the network, and metrics ask for no token.
ON_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# Workers that Ray starts before they are needed have no job's files, and a submitted job's processes must have them.
NO_PRESTART = ("RAY_prestart_worker_first_driver", "0")
PATIENCE = {  # seconds: on a busy machine a head takes longer than those after which Ray gives up by itself
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_raylet_start_wait_time_s": "240",
}
LONGEST_FOLDER = 40  # characters: Ray's sockets lie 60 below it, and the system takes 107 in all


def short_folder() -> str | None:
    """Where Ray's folder may lie: None for the usual place, `/tmp` where that one's name is too long for sockets."""
    return "/tmp" if len(tempfile.gettempdir()) > LONGEST_FOLDER and Path("/tmp").is_dir() else None


def check_address(address: str) -> None:
    """Refuse a RAY_ADDRESS that a driver can't join.

    Raises:
        UserError: it is a dashboard's, or names no port.
    """
    if address in ("auto", "local") or re.fullmatch(r"(ray://)?[^/\s]+:\d+", address):
        return
    raise UserError(
        "that is no address that a driver joins" + (" (jobs are submitted to it)" if "://" in address else ""),
        where=f"RAY_ADDRESS={address}",
        hint="submit the job with `raypref submit`, unset RAY_ADDRESS, or give the head as HEAD:6379",
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def token_without_home() -> None:
    """Let Ray's token lie in a private file until this process ends, where its own place (~/.ray) can't be written."""
    if os.environ["RAY_AUTH_MODE"] != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        return
    folder = Path("~/.ray").expanduser()
    with contextlib.suppress(OSError):  # then it can't be written
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "auth_token").is_file() or os.access(folder, os.W_OK):
            return
    descriptor, path = tempfile.mkstemp(prefix="raypref-token-")  # for this user's eyes alone
    with open(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    atexit.register(Path(path).unlink, missing_ok=True)
    os.environ["RAY_AUTH_TOKEN_PATH"] = path
