"""One store for the tests of a session, on all its workers: what several read is made once."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from raypref.config import RunConfig
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from tests.support.tiny_chain import run


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, so that of two workers that need what is made there one makes it and the other waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, or its process dies
        yield


def made(config: RunConfig, store: Store) -> Chain:
    """The run, every stage of it in the shared store, to be read and not to be written to."""
    with alone(store.root):
        return run(config, store)[0]


def copied(plan: Chain, store: Store, root: Path) -> Store:
    """A store of one's own in `root` with a run's stages, to damage or to go on in."""
    own = Store(root)
    for stage in plan:
        shutil.copytree(store.path(stage.address), own.root / str(stage.address), dirs_exist_ok=True)
    return own
