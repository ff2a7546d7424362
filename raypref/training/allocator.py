"""The C library's allocator, told to keep what a training step frees for the next step; and the most it held."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path

import torch

# Parameters of glibc's mallopt(3), from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 1 << 30  # bytes; a larger block still gets pages of its own


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks instead of giving them back to the kernel; whether it was told.

    A step frees and takes the same activations again and again. By default each block above some MB costs a system call
    and a page fault for every 4 KiB of it, each time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(MMAP_THRESHOLD, LARGEST), mallopt(TRIM_THRESHOLD, 2 * LARGEST - 1)])


def give_back_freed_memory() -> None:
    """To the kernel, where the C library is glibc: what the next work of this process will not need."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def forget_peak_memory() -> None:
    """Count `peak_memory_gb` from here on, or from the process's start where the kernel does not let it do that."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_gb() -> float:
    """Most memory this process has held: of its GPU if it has one, else resident."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 3)
    if sys.platform.startswith("linux") and (
        found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    ):
        return round(int(found[1]) * 1024 / 1e9, 3)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)
