"""Where the checkout is, and what a process of a test is started with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    """The variables of a process that a test starts.

    Nothing of a cluster that may run here, a HOME of its own for Ray's token, this checkout's raypref, this Python
    as `python`. How nice Ray's workers are stays as it is: in a container, being less nice may be refused.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAYPREF_")) or k == "RAY_worker_niceness"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "HOME": str(home), "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
