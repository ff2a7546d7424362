"""What trials and nodes cost beside training: overhead a trial, memory of the head, the object store, how they grow.

    python benchmarks/scale.py --write docs/scaling.md --json docs/performance/scale.json     # hours on two cores
    python benchmarks/scale.py --nodes 1 2 --trials 1 10 --write docs/scaling.md

Nodes are those of `ray.cluster_utils`: raylets of this machine with logical CPUs, each as a machine of its own to Ray.
With `--json` each row is kept as soon as it is measured, and a later run measures only those that lack.

Trials are as short as they can be (one training step, a few evaluated users), so that what is left is overhead. Every
pair of nodes and trials is a process and a cluster of its own; the stages before the trials are made once, beforehand.

While a sweep runs, the memory of the head's processes (proportional set size of GCS, dashboard and its agents), of the
driver, and the use of the object store are sampled every second with the number of trials that have ended; `growth` is
the slope of a line through those samples, from the first ended trial on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parent.parent
SWEEP = ROOT / "sweeps" / "sweep_lambda.yaml"
SHORT = """
    --preset smoke --seeds 1 --sft.max-steps 1 --align.max-steps 1 --align.validations 0 --evaluation.no-generate
    --evaluation.max-examples 4 --resources.engine torch --resources.threads 1
""".split()
MARK = "<!-- written by benchmarks/scale.py -->"
GPUS, TRIALS, MINUTES = 64, 1000, (10, 60, 240)
MB = 1e6


def options(root: Path, trials: int) -> list[str]:
    values = ["2", *(f"{i / 1000:g}" for i in range(trials - 1))]  # the default setting is always one of them
    return ["--root", str(root), *SHORT, "--values", *values]


class Sampler(threading.Thread):
    """Once a second: trials that ended, memory of the head and of the driver, bytes in the object store."""

    def __init__(self, root: Path, head: list[psutil.Process]) -> None:
        super().__init__(daemon=True)
        self.root, self.head, self.samples, self.ended = root, head, list[list[float]](), threading.Event()

    def run(self) -> None:
        import ray

        driver = psutil.Process()
        while not self.ended.wait(1):
            if not ray.is_initialized():
                continue
            free, whole = (
                resources().get("object_store_memory", 0.0)
                for resources in (ray.available_resources, ray.cluster_resources)
            )
            done = sum('"done"' in path.read_text() for path in self.root.glob("sweeps/*/trials/*.json"))
            self.samples.append([done, memory(self.head), memory([driver]), whole - free])


def memory(processes: list[psutil.Process]) -> float:
    """Proportional set size of processes and of what they started, MB; those that are gone are left out."""
    total = 0.0
    for process in processes:
        try:
            total += process.memory_full_info().pss / MB
        except psutil.Error:
            continue
    return total


def slope(samples: list[list[float]], column: int) -> float:
    """Growth of a column a trial; 0 where fewer than 3 different numbers of trials were seen."""
    seen = np.array([row for row in samples if row[0] > 0])
    if len(seen) == 0 or len(set(seen[:, 0])) < 3:
        return 0.0
    return float(np.polyfit(seen[:, 0], seen[:, column], 1)[0])


def one(nodes: int, trials: int, cpus: int, root: Path) -> dict[str, Any]:
    """A sweep of short trials on a cluster of its own, in this process."""
    import ray
    from ray.cluster_utils import Cluster

    from raypref.cluster.head import free_port
    from raypref.sweeps.job import run

    dashboard = free_port()
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    shared: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": 200_000_000}
    head = {**shared, "include_dashboard": True, "dashboard_port": dashboard, "dashboard_host": "127.0.0.1"}
    started = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes - 1):
        cluster.add_node(**shared)
    cluster.wait_for_nodes()
    up = time.perf_counter() - started
    os.environ["RAY_ADDRESS"] = cluster.address
    groups: Any = cluster.head_node.all_processes  # type: ignore[attr-defined]
    own = {psutil.Process(p.process.pid) for group in groups.values() for p in group}
    kept = [p for p in own if p.name() in ("gcs_server", "raylet") or "dashboard" in " ".join(p.cmdline())]
    sampler = Sampler(root, kept)
    sampler.start()
    driver = psutil.Process()
    before, started = driver.cpu_times(), time.perf_counter()
    code = run(SWEEP, [*options(root, trials), "--resources.concurrent-trials", str(nodes * cpus)])
    wall, after = time.perf_counter() - started, driver.cpu_times()
    sampler.ended.set()
    sampler.join()
    ray.shutdown()  # before the cluster: a driver whose cluster goes first ends with an error
    cluster.shutdown()
    records = [json.loads(path.read_text()) for path in root.glob("sweeps/*/trials/*.json")]
    done = [record for record in records if record["status"] == "done"]
    if code or len(done) != trials:
        raise SystemExit(f"{len(done)} of {trials} trials ended well (exit code {code})")
    busy = after.user + after.system - before.user - before.system
    first = sampler.samples[0] if sampler.samples else [0.0] * 4
    return {
        "nodes": nodes,
        "trials": trials,
        "at_once": nodes * cpus,
        "cluster_seconds": round(up, 1),
        "wall_seconds": round(wall, 1),
        "overhead_seconds": round(statistics.median(record["overhead_seconds"] for record in done), 2),
        "driver_cpu_seconds": round(busy / trials, 3),
        "head_mb": round(first[1], 1),
        "head_growth_mb": round(slope(sampler.samples, 1), 4),
        "driver_growth_mb": round(slope(sampler.samples, 2), 4),
        "store_mb": round(max((row[3] for row in sampler.samples), default=0.0) / MB, 2),
        "store_growth_mb": round(slope(sampler.samples, 3) / MB, 4),
        "folder_kb": round(
            sum(p.stat().st_size for p in (root / "sweeps").rglob("*") if p.is_file()) / trials / 1e3, 1
        ),
    }


def table(runs: list[dict[str, Any]]) -> list[str]:
    columns = {
        "nodes": "nodes",
        "trials": "trials",
        "at_once": "at once",
        "wall_seconds": "wall s",
        "overhead_seconds": "overhead s a trial",
        "driver_cpu_seconds": "driver CPU s a trial",
        "head_mb": "head MB",
        "head_growth_mb": "head MB a trial",
        "driver_growth_mb": "driver MB a trial",
        "store_mb": "object store MB",
        "store_growth_mb": "object store MB a trial",
        "folder_kb": "sweep's folder KB a trial",
    }
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(f"{run[name]:g}" for name in columns) + " |" for run in runs]


def arithmetic(runs: list[dict[str, Any]]) -> list[str]:
    """What the constants of the largest run say of 64 GPUs and 1,000 trials."""
    most = max(runs, key=lambda run: (run["trials"], run["nodes"]))
    overhead, cpu = most["overhead_seconds"], most["driver_cpu_seconds"]
    rounds = math.ceil(TRIALS / GPUS)
    waste = ", ".join(f"{overhead / (60 * minutes + overhead):.1%}" for minutes in MINUTES)
    takes = ", ".join(f"{rounds * (minutes * 60 + overhead) / 3600:.1f} h" for minutes in MINUTES)
    head = most["head_mb"] + TRIALS * max(0.0, most["head_growth_mb"])
    driver = TRIALS * max(0.0, most["driver_growth_mb"])
    share, least = cpu * GPUS / 60 / MINUTES[0], cpu * GPUS
    store, grows = most["store_mb"], most["store_growth_mb"]
    return [
        f"From the run with {most['nodes']} nodes and {most['trials']} trials, for {TRIALS:,} trials of one GPU each",
        f"on {GPUS} GPUs:",
        "",
        f"- {rounds} rounds of {GPUS} trials. With trials of {', '.join(map(str, MINUTES))} minutes the overhead of",
        f"  {overhead:g} s is {waste} of the GPUs' time, and the sweep takes {takes}.",
        f"- The driver spends {cpu:g} s of CPU a trial, {cpu * TRIALS:.0f} s in all: {share:.1%} of one core with",
        f"  trials of {MINUTES[0]} minutes. Trials that took less than {least:.1f} s would wait for it.",
        f"- The head starts at {most['head_mb']:.0f} MB and grows by {most['head_growth_mb']:g} MB a trial,",
        f"  to {head:.0f} MB; the driver grows by {driver:.0f} MB.",
        f"- The object store holds {store:g} MB at most and grows by {grows:g} MB a trial.",
        f"- The sweep's folder: {most['folder_kb'] * TRIALS / 1e3:.0f} MB.",
    ]


def write(path: Path, lines: list[str]) -> None:
    """Between the marks of a page."""
    before, _, after = path.read_text().split(MARK)
    path.write_text(MARK.join([before, "\n\n" + "\n".join(lines) + "\n\n", after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--cpus", type=int, default=2, help="logical CPUs of a node: trials that it runs at once")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page whose marked part is written anew")
    parser.add_argument("--json", type=Path, metavar="FILE", help="rows: those in it are kept and not measured again")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.nodes[0], given.trials[0], given.cpus, given.root)))
        return
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAYPREF_")} | {"PYTHONPATH": str(ROOT)}
    runs = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    kept = {(run["nodes"], run["trials"], run["at_once"]) for run in runs}
    with tempfile.TemporaryDirectory() as temporary:
        environment |= {"HOME": temporary, "RAY_AUTH_MODE": "token"}
        token = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
        subprocess.run(token, env=environment, check=True, stdout=subprocess.DEVNULL)
        shared = Path(temporary) / "shared"
        job = [sys.executable, str(ROOT / "jobs/sweep_lambda.py"), *options(shared, 1), "--no-ray"]
        subprocess.run(job, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for nodes in given.nodes:
            for trials in given.trials:
                if (nodes, trials, nodes * given.cpus) in kept:
                    continue
                root = Path(temporary) / f"{nodes}-{trials}"
                keep_shared(shared, root)
                counts = ["--nodes", str(nodes), "--trials", str(trials), "--cpus", str(given.cpus)]
                child = [sys.executable, __file__, "--one", *counts, "--root", str(root)]
                done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stdout[-2000:] + done.stderr[-3000:])
                runs.append(json.loads(done.stdout.splitlines()[-1]))
                print(json.dumps(runs[-1]), flush=True)
                if given.json:
                    given.json.write_text(json.dumps(runs, indent=1) + "\n")
    lines = [*table(runs), "", *arithmetic(runs)]
    print("\n".join(lines))
    if given.write:
        write(given.write, lines)


def keep_shared(shared: Path, root: Path) -> None:
    """Results with the stages before the trials, and no trial."""
    import shutil

    shutil.copytree(shared, root, ignore=shutil.ignore_patterns("sweeps", "align"))
    for path in root.glob("evaluate/*"):
        if "-sft-" not in path.name:
            shutil.rmtree(path)


if __name__ == "__main__":
    main()
