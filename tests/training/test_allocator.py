"""The allocator keeps what a step frees: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from raypref.training.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
torch.set_num_threads(1)
def step():
    for size in (3, 5, 9, 17):
        torch.ones(size << 20)  # 12 to 68 MB
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    result = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True)
    if result.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.measures
def test_kept_blocks_cost_no_page_faults() -> None:
    assert faults("kept") * 10 < faults("given back")
