"""How many cores this process may use: of a container or a scheduler's slot, not of the host."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Those that the process may run on (affinity), or fewer where a cgroup grants it less time; one at least."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(own, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Cores' worth of time that the cgroup grants (v2: cpu.max, v1: cpu.cfs_quota_us); infinite without a limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            granted, period = (cgroup / "cpu.max").read_text().split()
        else:
            granted, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return math.inf if granted in ("max", "-1") else int(granted) / int(period)
    except (OSError, ValueError):  # no cgroup, or one of another form
        return math.inf
