"""What a sweep costs: 8 values of λ in one sweep, against its parts, and against 8 runs that share nothing.

    python benchmarks/sweep.py                         # about half an hour on two cores
    python benchmarks/sweep.py --independent 2         # two independent runs measured, the mean counted for the others
    python benchmarks/sweep.py --write docs/performance/sweep.json
    python benchmarks/sweep.py --no-ray --independent 0    # the sweep in one process, a trial after the other
    python benchmarks/sweep.py --values 0 2 --independent 1 -- --data.source.users 60 ...   # any other setting

The sweep is `jobs/sweep_lambda.py`, a process of its own, in an empty folder, on Ray unless told otherwise; its wall
time counts from the start of the process to the drawn report. Its parts are what its stages say that they took: SFT's
training, the reference, and training and evaluation of each trial divided by how many ran at once. An independent run
is `raypref run --no-ray` in an empty folder of its own, with all the machine's cores: the cheapest form in which
nothing is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VALUES = ("0", "0.25", "0.5", "1", "1.5", "2", "3", "5")
SHARED = ("sft", "reference")
ALLOWED = 0.10
WANTED = 2.5


def timed(command: list[str], home: Path) -> float:
    """Wall seconds of a command, with a HOME of its own for Ray's token."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYPREF_"))}
    environment = kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


def at_once(records: list[dict[str, Any]]) -> int:
    """Most trials that ran at one time."""
    events = sorted([(r["started"], 1) for r in records] + [(r["ended"], -1) for r in records])
    running = most = 0
    for _, change in events:
        running += change
        most = max(most, running)
    return most


def sweep(root: Path, values: list[str], extra: list[str]) -> dict[str, Any]:
    """Run the sweep; its wall time and what its parts took."""
    command = [sys.executable, "jobs/sweep_lambda.py", "--root", str(root), "--seeds", "1", "--values", *values, *extra]
    wall = timed(command, root)
    records = [json.loads(path.read_text()) for path in sorted(root.glob("sweeps/*/trials/*.json"))]
    stages: dict[str, float] = {}
    for path in root.glob("*/*/_SUCCESS"):
        manifest = json.loads(path.read_text())
        kind, facts = manifest["address"].split("/")[0], manifest["facts"]
        if kind in SHARED:
            stages[kind] = stages.get(kind, 0.0) + facts.get("train_seconds", manifest["seconds"])
    concurrent = at_once(records)
    trials = sum(r["train_seconds"] + r["evaluate_seconds"] for r in records) / concurrent
    parts = sum(stages.values()) + trials
    return {
        "wall_seconds": round(wall, 1),
        "parts_seconds": round(parts, 1),
        "over_parts": round(wall / parts - 1, 3),
        "shared_stages": {kind: round(seconds, 1) for kind, seconds in stages.items()},
        "trials_seconds": round(trials, 1),
        "trials_at_once": concurrent,
        **({"overhead_seconds": overhead(records)} if all("overhead_seconds" in r for r in records) else {}),
    }


def overhead(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What trials on Ray spent outside training and evaluation; without Ray there is nothing to start."""
    return {
        "of each": [r["overhead_seconds"] for r in sorted(records, key=lambda r: r["started"])],
        "median": statistics.median(r["overhead_seconds"] for r in records),
        "before the first step": statistics.median(r["start_seconds"] for r in records),
        "after the evaluation": statistics.median(r["end_seconds"] for r in records),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", nargs="+", default=list(VALUES))
    parser.add_argument("--independent", type=int, help="independent runs that are measured; none: one for each value")
    parser.add_argument("--no-ray", action="store_true", help="the sweep in one process, without Ray")
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("extra", nargs="*", help="after `--`: options of sweep and runs alike")
    options = parser.parse_args()
    measured = len(options.values) if options.independent is None else options.independent
    with tempfile.TemporaryDirectory() as temporary:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        found: dict[str, Any] = {"values": options.values, "ray": not options.no_ray, **machine}
        where = Path(temporary) / "sweep"
        where.mkdir()
        found["sweep"] = sweep(where, options.values, [*(["--no-ray"] if options.no_ray else []), *options.extra])
        print(json.dumps(found["sweep"], indent=1), flush=True)
        alone = []
        for value in options.values[:measured]:
            root = Path(temporary) / f"alone-{value}"
            root.mkdir()
            command = [sys.executable, "-m", "raypref.cli", "run", "--no-ray", "--root", str(root), "--objective"]
            alone.append(timed([*command, "recpo", "--align.objective.lambda", value, *options.extra], root))
            print(f"independent run, λ = {value}: {alone[-1]:.1f} s", flush=True)
    if alone:
        whole = statistics.mean(alone) * len(options.values)
        found["independent"] = {
            "seconds": [round(s, 1) for s in alone],
            "of_all": round(whole, 1),
            "over_sweep": round(whole / found["sweep"]["wall_seconds"], 2),
        }
        ratio = found["independent"]["over_sweep"]
        print(f"{len(options.values)} independent runs take {ratio} times the sweep (wanted: {WANTED})")
    print(f"the sweep takes {found['sweep']['over_parts']:+.1%} over its parts (allowed: {ALLOWED:+.0%})")
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
