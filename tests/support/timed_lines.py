"""A command's output with the time of each line: how long it was silent."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import environment

SILENCE_S = float(os.environ.get("RAYPREF_SILENCE", "15"))  # CI gives more, as it has other work beside


@dataclass
class Timed:
    """What a command said, and when, in seconds since it began; the last time is that of its end."""

    returncode: int
    stdout: str
    stderr: str
    times: list[float]


def timed(command: Sequence[str], home: Path, timeout: float = 500) -> Timed:
    """Run a command and note when each line of its output came, of its errors too."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment(home), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
    times: list[float] = []

    def read(name: str) -> None:
        for line in getattr(process, name):
            times.append(time.monotonic() - began)
            lines[name].append(line)

    readers = [threading.Thread(target=read, args=[name]) for name in lines]
    for reader in readers:
        reader.start()
    code = process.wait(timeout)
    for reader in readers:
        reader.join()
    times.append(time.monotonic() - began)
    return Timed(code, "".join(lines["stdout"]), "".join(lines["stderr"]), sorted(times))


def longest_silence(said: Timed) -> float:
    """The longest time without a line, from the first line on: before it Python is started and imports."""
    return max((after - before for before, after in zip(said.times, said.times[1:])), default=0.0)
