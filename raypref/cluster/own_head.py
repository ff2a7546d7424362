"""A Ray head of this machine that `raypref submit` starts for its jobs, and stops; imports nothing of Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from raypref.cluster.head import (
    FEWER_WARNINGS,
    MIN_LOGICAL_CPUS,
    NO_PRESTART,
    ON_LOOPBACK,
    PATIENCE,
    free_port,
    short_folder,
)
from raypref.cores import usable_cores
from raypref.errors import UserError

logger = logging.getLogger(__name__)

DASHBOARD_PORT = 8265
START_SECONDS = 300
AGENT_SECONDS = 120
STOP_SECONDS = 5  # the jobs are over: what a head does in its last seconds nobody reads
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
RAY = (sys.executable, "-m", "ray.scripts.scripts")
QUIET_S = 10.0


@contextlib.contextmanager
def local_head(dashboard_port: int | None, verbose: bool = False) -> Iterator[str]:
    """A Ray head on this machine: gives the address of its dashboard.

    Args:
        verbose: whether jobs show what Ray's workers say.
    """
    port = _dashboard_port(dashboard_port)
    address = f"http://127.0.0.1:{port}"
    environment = PATIENCE | head_environment()
    environment |= {"RAY_API_SERVER_ADDRESS": address, "RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
    environment.setdefault(*FEWER_WARNINGS)
    environment.setdefault(*NO_PRESTART)
    environment.setdefault(*ON_LOOPBACK)
    folder = Path(tempfile.mkdtemp(prefix="raypref-", dir=short_folder()))
    environment |= token(folder, environment)
    log = (folder / "head.log").open("w")
    ports = {"port": free_port(), "ray-client-server-port": free_port(), "dashboard-agent-listen-port": free_port()}
    head = subprocess.Popen(
        [
            *(*RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"),
            *(f"--{name}={number}" for name, number in ports.items()),
            f"--num-cpus={max(usable_cores(), MIN_LOGICAL_CPUS)}",
            f"--include-log-monitor={verbose}",  # it brings the workers' logs to the job's own
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own, so that all of it can be stopped and nothing else
    )
    # A submitter that is told to end must end its head too: SIGTERM becomes an exception, so that `finally` is reached.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        logger.info("starting Ray on this machine")
        _wait_for(address, head, folder / "head.log")
        _wait_for_agent(ports["dashboard-agent-listen-port"], head)
        logger.info("Ray head started; dashboard at %s while the job runs", address)
        logger.info("live curves: raypref dashboard --temp-dir %s", folder)
        yield address
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(head)
        log.close()


def head_environment() -> dict[str, str]:
    """This process's environment as a head and its jobs need it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": ""}  # .git among them, of which it warns; see LEFT_HERE
    own |= {"PATH": path, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    direct = ",".join(
        filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"])
    )
    return {**os.environ, **own, "no_proxy": direct, "NO_PROXY": direct}  # no proxy reaches this machine's loopback


def token(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Where the head's token lies: at home, as Ray has it, or in the head's own folder where home can't be written."""
    if (
        environment["RAY_AUTH_MODE"] != "token"
        or "RAY_AUTH_TOKEN" in environment
        or "RAY_AUTH_TOKEN_PATH" in environment
        or _has_token(environment)
    ):
        return {}
    made = subprocess.run([*RAY, "get-auth-token", "--generate"], env=environment, check=False, capture_output=True)
    if made.returncode == 0:
        return {}
    path = folder / "auth_token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)  # the job's own commands read it too
    return {"RAY_AUTH_TOKEN_PATH": str(path)}


def _has_token(environment: dict[str, str]) -> bool:
    """Whether Ray has left a token at home: to ask its command takes seconds."""
    path = Path(environment.get("HOME", "~")).expanduser() / ".ray" / "auth_token"
    return os.access(path, os.R_OK) and path.stat().st_size > 0


def _dashboard_port(wanted: int | None) -> int:
    if wanted is None:
        return DASHBOARD_PORT if _is_free(DASHBOARD_PORT) else free_port()
    if not _is_free(wanted):
        raise UserError(
            f"port {wanted} is in use", where="--dashboard-port",
            hint="choose another, leave the option out, or set RAY_ADDRESS to the cluster that uses it",
        )  # fmt: skip
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait_for(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    began = said = time.monotonic()
    while (now := time.monotonic()) < began + START_SECONDS:
        if now - said > QUIET_S:
            logger.info("starting Ray, %.0f s", now - began)
            said = now
        if head.poll() is not None:
            break
        try:
            with DIRECTLY.open(f"{address}/api/version", timeout=2):
                return
        except urllib.error.HTTPError:  # it answers, if only to ask for the token
            return
        except OSError:
            time.sleep(0.5)
    lines = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-8:])
    raise UserError(
        f"the Ray head did not start:\n    {lines}", where=str(log), hint="see that log; try `ray start --head`"
    )


def _wait_for_agent(port: int, head: subprocess.Popen[bytes]) -> None:
    """Wait until what starts jobs listens: on a busy machine minutes after the dashboard, and Ray waits 10 s for it."""
    until = time.monotonic() + AGENT_SECONDS
    while time.monotonic() < until and head.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)


def _stop(head: subprocess.Popen[bytes]) -> None:
    """End the head's process group: asked first, then forced."""
    for sent, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(patience)
            if sent == signal.SIGTERM:
                time.sleep(1)  # its children end a moment later; what is left of the group is then killed
