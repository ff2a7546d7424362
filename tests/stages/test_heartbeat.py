"""The watchdog over a worker ends a process that makes no headway, and no other."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import time
from raypref.stages.heartbeat import Heartbeat
beat = Heartbeat({seconds})
beat()
for _ in range(4):
    time.sleep(0.2)
    {each}
{after}
print("made it")
"""


def run(seconds: float | None, each: str, after: str = "") -> subprocess.CompletedProcess[str]:
    code = HANGS.format(seconds=seconds, each=each, after=after)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_process_that_hangs_ends_with_its_stacks() -> None:
    ended = run(0.5, "pass", "time.sleep(50)")
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert 'File "<string>", line' in ended.stderr
    assert "made it" not in ended.stdout


def test_one_that_goes_on_lives() -> None:
    for seconds, each, after in ((20.0, "beat()", ""), (0.6, "beat.stop()", "time.sleep(1)"), (None, "beat()", "")):
        ended = run(seconds, each, after)
        assert (ended.returncode, ended.stdout.strip()) == (0, "made it"), ended.stderr
