"""Content-addressed results: a stage's output lies at an address that its config and inputs determine.

`<root>/<stage>/<name>-<hash>/` is written under a temporary name, synced and renamed, with the manifest `_SUCCESS`
written last, so a folder with a manifest is whole and is never written again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raypref.errors import UserError
from raypref.provenance import provenance

MANIFEST = "_SUCCESS"
KEEP_TEMPORARY_S = 24 * 3600
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
FULL_DISK_TEXTS = ("No space left on device", "PytorchStreamWriter failed writing")


def digest(content: Any) -> str:
    """A short hash of anything that JSON can hold."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Address:
    """Where a stage's output lies: `stage/name-key`."""

    stage: str
    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}-{self.key}"


class Store:
    """The folder that holds every stage's output."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()

    def path(self, address: Address) -> Path:
        return self.root / str(address)

    def done(self, address: Address) -> bool:
        return (self.path(address) / MANIFEST).is_file()

    def manifest(self, address: Address) -> dict[str, Any]:
        """What was written with the output: config, inputs, seconds, versions, facts of the stage."""
        path = self.path(address) / MANIFEST
        try:
            result: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            mend = f"delete {path.parent} and run the same command again"
            raise UserError(f"a stage's manifest can't be read: {error}", where=str(path), mend=mend) from error
        return result

    def scratch(self, address: Address) -> Path:
        """A folder for unfinished work of `address` (checkpoints), the same for every attempt."""
        return self.root / ".scratch" / f"{address.stage}-{address.name}-{address.key}"

    @contextlib.contextmanager
    def writing(self, address: Address, config: Any, inputs: dict[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A fresh folder to write into, and a dict of facts for the manifest; published when the block ends well.

        Two writers of one address do the same work; the first to finish wins.
        """
        target = self.path(address)
        temporary = target.parent / f".tmp-{target.name}-{uuid.uuid4().hex[:8]}"
        facts: dict[str, Any] = {}
        started = time.time()
        try:
            with disk_faults(self.root):
                self._sweep(target.parent)
                temporary.mkdir(parents=True)
                yield temporary, facts
                manifest = {
                    "address": str(address),
                    "config": config,
                    "inputs": inputs,
                    "seconds": round(time.time() - started, 3),
                    "host": socket.gethostname(),
                    "facts": facts,
                    "provenance": provenance(),
                }
                (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))
                sync(temporary)
                self._publish(temporary, address)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.scratch(address), ignore_errors=True)

    def _publish(self, temporary: Path, address: Address) -> None:
        target = self.path(address)
        if not self.done(address):  # a folder without manifest is no writer's work: someone deleted parts of it
            shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(temporary, target)
        except OSError:
            if not self.done(address):
                raise
        _sync_one(target.parent)

    def _sweep(self, folder: Path) -> None:
        """Remove what writers that were killed a day ago or more have left."""
        for leftover in folder.glob(".tmp-*"):
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > KEEP_TEMPORARY_S:
                    shutil.rmtree(leftover, ignore_errors=True)

    def check_space(self, needed_bytes: int) -> None:
        """Refuse to start where the disk has less than `needed_bytes` free, or can't be written."""
        with disk_faults(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free
        if not os.access(self.root, os.W_OK):
            raise UserError("results can't be written", where=str(self.root), mend="choose another folder by --root")
        if free < needed_bytes:
            raise UserError(
                f"{free / 1e9:.2f} GB are free on the disk; this run may need {needed_bytes / 1e9:.2f} GB",
                where=str(self.root),
                mend="free some space, or choose another folder by --root",
            )


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, default=str)
    try:
        temporary.write_text(text)
        _sync_one(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def sync(folder: Path) -> None:
    """Return when all that lies below `folder` is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_faults(root: Path) -> Iterator[None]:
    """Turns faults of the results' disk that a user can mend into a UserError; lets any other error through.

    safetensors and torch tell of a full disk by exceptions of their own, so the text counts too.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in FULL_DISK_TEXTS):
            mend = "free some space and run the same command again"
            raise UserError("the disk is full", where=str(root), mend=mend) from error
        if number in NOT_WRITABLE and _below(error, root):
            mend = "choose another folder by --root"
            raise UserError(f"results can't be written: {error}", where=str(root), mend=mend) from error
        raise


def _below(error: Exception, root: Path) -> bool:
    """Whether the error is of a path at, above or below `root`: another may be a source file's."""
    name = getattr(error, "filename", None)
    path = Path(os.fsdecode(name)).absolute() if name is not None else root
    return path.is_relative_to(root) or root.is_relative_to(path)
