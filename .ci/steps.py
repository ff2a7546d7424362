"""Run CI's steps, side by side where that disturbs none; tell their times beside the predicted ones.

python3 .ci/steps.py     # from the checkout; exits 1 if a step failed

Each step writes to a log of its own, .ci/logs/NAME.log, which is shown when it ends. `.ci/times.json` holds what each
step is predicted to take; what it took is left in .ci/logs/times.json, and copied from there when it changes for good.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
LOGS = HERE / "logs"
SLOW = 1.5  # of a step's predicted time

BROWSER = "apt-get update -q && apt-get install -y -q --no-install-recommends chromium prometheus"
ALONE = "--last-failed --last-failed-no-failures none -n 0"
STEPS: dict[str, list[list[str]]] = {
    # The browser and Prometheus are what some tests need and skip without: a container's root can install them.
    "packages": [["sh", "-c", f'[ "$(id -u)" = 0 ] && {BROWSER}'], ["echo", "some tests may skip"]],
    "install": [["make", "install-test"]],
    "test": [["make", "test"]],
    "lint": [["make", "lint"]],
    "docs": [["make", "docs"]],
    "pages": [["make", "pages"]],
    "measures": [["make", "measures"]],
    "sweep": [["make", "sweep", "ARGS=--preset smoke --seeds 1 --limit 2"]],
    # These wait for processes, and kill some, on busy cores: what fails is told, and tried once more, alone.
    "ray": [["make", "ray"], ["make", "ray", f"ARGS={ALONE}"]],
    "cluster": [["make", "cluster"], ["make", "cluster", f"ARGS={ALONE}"]],
    "lowest-ray": [["make", "lowest-ray"], ["make", "lowest-ray"]],
    "audit": [["make", "audit"], ["echo", "the audit is a report: it fails nothing"]],
}
"""Commands of each step; the next is tried where the one before failed."""

ROUNDS: list[list[list[str]]] = [
    [["install"], ["packages"]],
    [["test"]],  # both cores are its own, so that its time says something
    [["pages", "lint", "docs", "audit"], ["ray"]],  # both wait for processes that start
    [["cluster"]],  # alone: it kills processes and waits for others, and what trains beside it starves them
    [["measures"], ["sweep", "lowest-ray"]],  # a core each
]
"""One after the other; the lists of a round run side by side, the steps of a list one after the other."""


def run_step(name: str, commands: list[list[str]], log: Path) -> tuple[bool, float]:
    """Run a step's commands, all they say into its log, until one ends well; whether one did, and the seconds."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as root, log.open("w") as output:
        # Ray's own niceness of 15 would leave its workers next to nothing beside what a test itself computes. Threads
        # of torch's that wait spin, unless they are told not to, on a core that another process could use.
        own = {"RAYPREF_ROOT": root, "RAY_worker_niceness": "0", "OMP_WAIT_POLICY": "passive", "RAYPREF_SILENCE": "45"}
        for command in commands:
            output.write(f"$ {' '.join(command)}\n")
            output.flush()
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | own, check=False)
            if done.returncode == 0:
                break
    return done.returncode == 0, time.monotonic() - started


def run_steps(
    steps: dict[str, list[list[str]]], rounds: list[list[list[str]]], logs: Path
) -> Iterator[tuple[str, bool, float]]:
    """Run all rounds, and show each step's log when it ends. The first round is what the others need.

    Yields:
        name, whether it ended well, seconds; a round's when the round is over.
    """
    logs.mkdir(exist_ok=True)
    showing = threading.Lock()

    def run_one_by_one(names: list[str]) -> list[tuple[str, bool, float]]:
        found = []
        for name in names:
            log = logs / f"{name}.log"
            well, seconds = run_step(name, steps[name], log)
            found.append((name, well, seconds))
            with showing:
                print(f"==== {name}: {'ended well' if well else 'FAILED'} after {seconds:.0f} s")
                print(log.read_text(errors="replace"), flush=True)
        return found

    for number, together in enumerate(rounds):
        with ThreadPoolExecutor(len(together)) as pool:
            found = [step for one in pool.map(run_one_by_one, together) for step in one]
        yield from found
        if number == 0 and not all(well for _, well, _ in found):
            return


def compare(measured: dict[str, float], predicted: dict[str, float]) -> str:
    """A table of measured beside predicted seconds, and a sentence for each step that took more than half longer."""
    lines = [f"{'step':12}{'predicted':>10}{'measured':>10}"]
    lines += [f"{name:12}{predicted[name]:>8.0f} s{seconds:>8.0f} s" for name, seconds in measured.items()]
    lines += [
        f"{name} is slow: more than half over its prediction"
        for name, seconds in measured.items()
        if seconds > SLOW * predicted[name]
    ]
    return "\n".join(lines)


def main() -> int:
    predicted = json.loads((HERE / "times.json").read_text())["seconds"]
    started = time.monotonic()
    found = list(run_steps(STEPS, ROUNDS, LOGS))
    measured = {name: round(seconds, 1) for name, _, seconds in found} | {"all": round(time.monotonic() - started, 1)}
    (LOGS / "times.json").write_text(json.dumps({"seconds": measured}, indent=1) + "\n")
    print(compare(measured, predicted))
    failed = [name for name, well, _ in found if not well]
    print(f"failed: {', '.join(failed)}" if failed else "all steps ended well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
