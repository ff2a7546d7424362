"""The C library's allocator, told to keep what a training step frees for the next step."""

from __future__ import annotations

import ctypes
import sys

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
