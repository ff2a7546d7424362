"""CPU seconds of every process that a command starts, by what Ray calls them: what a trial costs beside its training.

    python benchmarks/processes.py -- python jobs/sweep_lambda.py --preset smoke --seeds 1 \
        --resources.concurrent-trials 1
    python benchmarks/processes.py --write processes.json -- COMMAND

CPU time and not wall time, as other work on the machine hardly moves it. Processes are looked at four times a second,
so what one does in its last quarter of a second is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

LOOK_EVERY_S = 0.25
SHOWN_FROM_S = 0.5


def name_of(process: psutil.Process) -> str | None:
    """`TrainController` of a Ray worker that has something to do, else what runs; None for an idle worker."""
    command = process.cmdline() or [process.name()]
    if command[0].startswith("ray::"):
        name = command[0].rsplit(":", 1)[-1].split(".")[0].strip()  # a named actor's title: ray::its name:Class.method
        return None if name == "IDLE" else name
    if any("worker.py" in part for part in command):
        return None
    shown = [part for part in command[1:3] if not part.startswith("-")]
    return " ".join([Path(command[0]).name, *(Path(part).name for part in shown)])


def watch(command: list[str]) -> list[dict[str, Any]]:
    """Processes of a command, in the order of their start: name, CPU seconds, when first and last seen, peak MB."""
    began = time.time()
    main = psutil.Popen(command)
    seen: dict[tuple[int, float], dict[str, Any]] = {}
    while main.poll() is None:
        try:
            processes = [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        now = round(time.time() - began, 1)
        for process in processes:
            try:
                with process.oneshot():
                    times, name = process.cpu_times(), name_of(process)
                    key = (process.pid, process.create_time())
                    entry = seen.setdefault(key, {"name": "idle worker", "first": now, "mb": 0.0})
                    entry |= {"cpu_seconds": round(times.user + times.system, 2), "last": now}
                    entry["mb"] = max(entry["mb"], round(process.memory_info().rss / 1e6))
                    entry["name"] = name or entry["name"]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended while it was looked at
        time.sleep(LOOK_EVERY_S)
    if main.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {main.returncode}")
    return list(seen.values())


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: processes of each name, the median CPU seconds of one and the sum of all."""
    lines = ["| process | how many | CPU s each | CPU s in all |", "|---|---|---|---|"]
    names = {entry["name"]: None for entry in found}
    spent = {name: [entry["cpu_seconds"] for entry in found if entry["name"] == name] for name in names}
    for name, seconds in sorted(spent.items(), key=lambda item: -sum(item[1])):
        if sum(seconds) >= SHOWN_FROM_S:
            lines.append(f"| {name} | {len(seconds)} | {statistics.median(seconds):.1f} | {sum(seconds):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="JSON, a line for each process")
    parser.add_argument("command", nargs="+", help="after `--`")
    options = parser.parse_args()
    found = watch(options.command)
    print(table(found))
    if options.write:
        options.write.write_text("".join(json.dumps(entry) + "\n" for entry in found))


if __name__ == "__main__":
    main()
