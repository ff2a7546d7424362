"""What a Ray head of this machine is started with, by a job itself or by `raypref submit`; imports nothing of Ray."""

from __future__ import annotations

import socket

MIN_LOGICAL_CPUS = 4  # Train's and Data's own processes need slots beside one or two workers
FEWER_WARNINGS = ("RAY_worker_maximum_startup_concurrency", "8")  # Train starts more processes than there are cores
# A head for this machine alone, as on a Mac: else Ray's ports are open to the network, and metrics ask for no token.
ON_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
