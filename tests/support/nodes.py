"""Three Ray nodes on this machine, the sweep that the fault tests run on them, and what they look at."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from raypref.cluster import head as ray_head
from raypref.cluster.head import free_port
from raypref.storage.store import MANIFEST
from tests.support.forked import Forked
from tests.support.processes import environment

RAY = (sys.executable, "-m", "ray.scripts.scripts")
PATIENCE = int(os.environ.get("RAYPREF_PATIENCE", "400"))  # seconds for anything that takes seconds on an idle machine
SWEEP = """
    --preset smoke --seeds 1 --align.max-steps 30 --evaluation.no-generate
    --resources.engine torch --resources.threads 1 --resources.checkpoint-every 4
""".split()
ALL, TWO, ONE = ("--values", "2", "0", "1"), ("--values", "2", "0"), ("--values", "2")
WORKER, TRIAL = "ray::RayTrainWorker", "ray::ImplicitFunc"  # how Ray names a training worker and a trial's own process


def wait(what: str, condition: Callable[[], Any]) -> Any:
    """What `condition` gives once it gives something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


class Nodes:
    """A head without CPUs, as in cluster.yaml, and two nodes of two logical CPUs; processes that this class started."""

    def __init__(self, home: Path, cpus: int = 0) -> None:
        """Start the head alone, with so many logical CPUs."""
        self.home = home
        self.folder = tempfile.mkdtemp(prefix="rp", dir="/tmp")  # a socket's path must be short
        self.port, dashboard = free_port(), free_port()
        api = f"http://127.0.0.1:{dashboard}"
        self.environment = environment(home) | {
            "RAY_AUTH_MODE": "token",
            "RAY_API_SERVER_ADDRESS": api,
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
            **ray_head.PATIENCE,
        }
        subprocess.run([*RAY, "get-auth-token", "--generate"], env=self.environment, check=True, capture_output=True)
        head = ("--head", f"--port={self.port}", f"--num-cpus={cpus}")
        web = ("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.head = self._start(*head, *web)
        self.environment["RAY_ADDRESS"] = f"127.0.0.1:{self.port}"

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        common = ("--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000")
        # A folder for each, as on machines of their own: a node unpacks a job's files over those that it finds.
        folder = f"--temp-dir={tempfile.mkdtemp(prefix='n', dir=self.folder)}"
        ports = (f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0")
        log = (self.home / f"node-{time.monotonic_ns()}.log").open("w")
        node = subprocess.Popen(
            [*RAY, "start", *options, *common, folder, *ports],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait("a node's start", lambda: "Ray runtime started" in Path(log.name).read_text() or node.poll() is not None)
        if node.poll() is not None:
            kill_group(node, signal.SIGKILL)  # what it had started lives on
            raise AssertionError(Path(log.name).read_text()[-3000:])
        return node

    def fill_up(self) -> None:
        """Start nodes until there are two beside the head."""
        self.workers = [node for node in self.workers if raylet(node) is not None]
        while len(self.workers) < 2:
            self.workers.append(self._start(f"--address=127.0.0.1:{self.port}", "--num-cpus=2"))

    def sweep(self, root: Path, *options: str) -> Forked:
        """The λ sweep, its driver on this machine."""
        command = ["jobs/sweep_lambda.py", "--root", str(root), *SWEEP, *options]
        return Forked(command, self.environment, self.home, root.parent / f"sweep-{time.monotonic_ns()}.log")

    def processes(self, title: str) -> list[psutil.Process]:
        """Processes of this cluster whose title begins so."""
        return [process for node in [self.head, *self.workers] for process in below(node, title)]

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = [process for node in [self.head, *self.workers] for process in below(node, "")]
        for node in [*self.workers, self.head]:
            kill_group(node, signal.SIGTERM)
        psutil.wait_procs(family, timeout=20)
        for node in [*self.workers, self.head]:
            kill_group(node, signal.SIGKILL)
            node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def below(node: subprocess.Popen[bytes], title: str) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(node.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
    return found


def raylet(node: subprocess.Popen[bytes]) -> psutil.Process | None:
    """A node's own process of Ray's, None where it has died."""
    found = [process for process in below(node, "/") if process.name() == "raylet"]
    return found[0] if found and node.poll() is None else None


def kill_group(process: subprocess.Popen[Any], sent: int) -> None:
    """To a process of ours that leads a group, and all of the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sent)


def shared_only(whole: Path, root: Path) -> Path:
    """A copy of results with the stages before the trials, and without the trials."""
    shutil.copytree(whole, root)
    for trial in (*root.glob("align/*"), *(path for path in root.glob("evaluate/*") if "-sft-" not in path.name)):
        shutil.rmtree(trial)
    shutil.rmtree(root / "sweeps")
    return root


def checkpoints(root: Path) -> list[Path]:
    """Of trainings that are under way."""
    return list(root.glob(".scratch/align-*/checkpoint.json"))


def rows(root: Path) -> dict[str, pa.Table]:
    """What each evaluation found of each user, by address."""
    return {path.parent.name: pq.read_table(path) for path in root.glob("evaluate/*/rows.parquet")}


def table(root: Path, sweep: str = "*") -> list[dict[str, Any]]:
    """The sweep's table of results: setting, split, metric, value."""
    (path,) = root.glob(f"sweeps/{sweep}-*/results.parquet")
    names = ["align.objective.lambda", "seed", "status", "split", "metric", "value"]
    found = pq.read_table(path, columns=names).to_pylist()
    return sorted(found, key=lambda row: [str(row[name]) for name in names])


def facts(root: Path) -> dict[str, dict[str, Any]]:
    """Of each alignment, by address."""
    manifests = root.glob(f"align/*/{MANIFEST}")
    return {path.parent.name: json.loads(path.read_text())["facts"] for path in manifests}


def records(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in root.glob("sweeps/*/trials/*.json")]


def ended(job: Forked) -> str:
    """What a job said, once it has ended well."""
    said = job.said(2 * PATIENCE)
    assert job.poll() == 0, said[-4000:]
    return said


def assert_undisturbed(root: Path, whole: Path, trials: int) -> None:
    """The evaluations are those of the undisturbed run, row for row."""
    found, expected = rows(root), rows(whole)
    assert len(found) == trials + 2  # and SFT's, and that of the recommender beside
    assert all(found[address].equals(expected[address]) for address in found)
    assert {record["status"] for record in records(root)} == {"done"}
