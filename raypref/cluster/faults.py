"""What a training worker and the process that started it have agreed on; imports nothing heavy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from raypref.errors import UserError
from raypref.storage.store import Store

METRIC = "validation_hr@1"  # exact ranking; what every training report carries
SHARE = "share"  # of the steps done, in the reports that a scheduler may stop a trial at
FAULT = "fault.json"
WATCHED = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"


def take_fault(store: Store, scratch: Path) -> UserError | None:
    """The fault that a worker left, which is removed."""
    fault = read_fault(store, scratch)
    (scratch / FAULT).unlink(missing_ok=True)
    if fault and store.bucket is not None:
        store.bucket.delete([(scratch / FAULT).relative_to(store.root).as_posix()])
    return fault


def read_fault(store: Store, scratch: Path) -> UserError | None:
    """What a worker left there that met a fault which the user must mend."""
    try:
        store.receive(scratch / FAULT)
        what, where, hint = json.loads((scratch / FAULT).read_text())
    except FileNotFoundError:
        return None
    return UserError(what, where=where, hint=hint)


def notice_file(node: str) -> Path:
    """What `raypref watch-spot` leaves for the trainings on a Ray node: its machine is about to be taken away."""
    return Path(tempfile.gettempdir()) / f"raypref-leaving-{node}"
