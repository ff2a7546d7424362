"""What the stages do beyond the store where results lie in an object store: nothing is lost with the machine it is on.

All of it does nothing where the root is a folder, which every machine of the cluster sees.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from raypref.storage.store import MANIFEST, RemotePath, Store, file_digest

POINTER = "checkpoint.json"  # names a training's checkpoints; what it names is whole, so it goes last


def send_checkpoint(store: Store, scratch: Path) -> None:
    """A training's scratch folder: what is new, then the pointer; what it no longer names goes."""
    if store.bucket is None:
        return
    prefix = scratch.relative_to(store.root).as_posix()
    here = [path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file()]
    there = store.bucket.files(prefix)
    frozen = {name for name in here if "/" in name and there.get(name) == (scratch / name).stat().st_size}
    store.bucket.upload_all(scratch, [name for name in here if name not in frozen | {POINTER}], prefix)
    store.bucket.upload(scratch / POINTER, f"{prefix}/{POINTER}")
    store.bucket.delete(f"{prefix}/{name}" for name in there if name not in here)


def receive_checkpoint(store: Store, scratch: Path) -> None:
    """The scratch folder of another machine's attempt, if that came further than what lies here."""
    if store.bucket is None:
        return
    prefix = scratch.relative_to(store.root).as_posix()
    try:
        there = _step(store.bucket.read(f"{prefix}/{POINTER}"))
    except FileNotFoundError:
        return
    if (scratch / POINTER).is_file() and _step((scratch / POINTER).read_bytes()) >= there:
        return
    shutil.rmtree(scratch, ignore_errors=True)
    store.receive(scratch)


def _step(pointer: bytes) -> int:
    try:
        return int(json.loads(pointer)["checkpoints"][0]["step"])
    except (ValueError, KeyError, IndexError, TypeError):
        return -1  # damaged


def new_part(store: Store) -> str | None:
    """A name in the object store for something that one stage's processes pass on to each other."""
    return None if store.bucket is None else f".parts/{uuid.uuid4().hex}"


def share(store: Store, folder: Path, part: str | None) -> Path:
    """A folder that is no stage's output yet, so that other machines can read it too."""
    if store.bucket is None or part is None:
        return folder
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    store.bucket.upload_all(folder, names, part)
    manifest = {"files": {name: file_digest(folder / name) for name in names}}
    store.bucket.write(f"{part}/{MANIFEST}", json.dumps(manifest).encode())
    shared = RemotePath(folder)
    shared.source = (store.location, part)
    return shared


def forget(store: Store, part: str | None) -> None:
    if store.bucket is not None and part is not None:
        store.bucket.delete_folder(part)
        shutil.rmtree(store.root / part, ignore_errors=True)


class SendShard:
    """Uploads a shard that a worker has written to where the stage's output will be."""

    def __init__(self, store: Store, address: object) -> None:
        self.location, self.address = store.location, str(address)

    def __call__(self, out: Path, path: Path) -> None:
        store = Store(self.location)
        if store.bucket is not None:
            store.bucket.upload(path, f"{self.address}/{path.relative_to(out).as_posix()}")
