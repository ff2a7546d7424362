"""`raypref watch-spot`: tells Ray that this machine is about to be taken away, so that its trainings save and move."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from raypref.cluster.faults import notice_file
from raypref.errors import UserError

logger = logging.getLogger(__name__)

AWS = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
GOOGLE = ("GCE_METADATA_HOST", "metadata.google.internal")
TIMEOUT_S = 2


@dataclass
class WatchSpot:
    """Wait for a notice that this machine is about to go: from AWS, from Google Cloud, or by SIGTERM (Slurm, your own
    script). Then drain its Ray node: trainings on it write a checkpoint at once, nothing new is placed there."""

    every: float = 5.0
    """Seconds between two questions to the cloud."""
    deadline: int = 110
    """Seconds that are left after a notice: AWS gives two minutes, Google 30 seconds."""


def watch_spot(options: WatchSpot) -> int:
    """Exit code: 0 once the node is drained."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    why = "SIGTERM"
    while not told.wait(options.every):
        if notice := noticed():
            why = notice
            break
    node, address = own_node()
    logger.info("%s: node %s is drained, %s s are left", why, node, options.deadline)
    give_notice(node, address, why, options.deadline)
    return 0


def give_notice(node: str, address: str, why: str, deadline: int) -> None:
    """Tell the trainings on a node, by a file that each looks for after each step, and the cluster.

    Raises:
        UserError: the cluster does not accept it.
    """
    notice_file(node).touch()
    drain(node, address, why, deadline)


def noticed() -> str | None:
    """What the cloud says of this machine's end; None: nothing, or there is no such cloud."""
    return next((said for ask in (_aws, _google) if (said := _answer(ask)) is not None), None)


def _answer(ask: Callable[[], str | None]) -> str | None:
    try:
        return ask()
    except (OSError, urllib.error.URLError):  # not there, or not now: it will be asked again
        return None


def _aws() -> str | None:
    base = os.environ.get(*AWS)
    seconds = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _get(urllib.request.Request(f"{base}/latest/api/token", method="PUT", headers=seconds))
    action = f"{base}/latest/meta-data/spot/instance-action"  # 404 until there is a notice
    return "AWS: " + _get(urllib.request.Request(action, headers={"X-aws-ec2-metadata-token": token}))


def _google() -> str | None:
    address = f"http://{os.environ.get(*GOOGLE)}/computeMetadata/v1/instance/preempted"
    said = _get(urllib.request.Request(address, headers={"Metadata-Flavor": "Google"}))
    return "Google Cloud: preempted" if said == "TRUE" else None


def _get(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        text: str = answer.read().decode().strip()
        return text


def own_node() -> tuple[str, str]:
    """This machine's Ray node and its cluster's address, as its raylet's command line has them.

    Raises:
        UserError: no raylet runs here.
    """
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            given = dict(word[2:].split("=", 1) for word in process.info["cmdline"] if word[:2] == "--" and "=" in word)
            if "node_id" in given and "gcs-address" in given:
                return given["node_id"], given["gcs-address"]
    raise UserError("no Ray node runs on this machine", hint="start one first: ray start --address=HEAD:6379")


def drain(node: str, address: str, why: str, deadline: int) -> None:
    """Tell the cluster that a node goes in `deadline` seconds.

    Raises:
        UserError: the cluster does not accept it.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", address, "--node-id", node]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", why]
    done = subprocess.run(
        [*command, *reason, "--deadline-remaining-seconds", str(deadline)], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"the node can't be drained: {done.stderr.strip()[-300:]}", where=f"node {node} of {address}")
