"""Content-addressed results: a stage's output lies at an address that its config and inputs determine.

`<root>/<stage>/<name>-<hash>/` is written under a temporary name, synced and renamed, with the manifest `_SUCCESS`
written last, so a folder with a manifest is whole and is never written again.

The root may be an object store's address (s3://, gs://). Then each machine has a mirror of it in a folder, where stages
work as ever; what a stage leaves is uploaded, its manifest last, and a stage that another machine made is fetched when
its path is asked for.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raypref.errors import UserError
from raypref.provenance import provenance
from raypref.storage.bucket import Bucket, is_address

MANIFEST = "_SUCCESS"
MIRROR = "RAYPREF_MIRROR"
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
    """The folder, or the object store, that holds every stage's output."""

    def __init__(self, root: Path | str) -> None:
        self.bucket: Bucket | None = None
        if is_address(root):
            self.location = str(root).rstrip("/")
            self.bucket = Bucket.at(self.location)
            self.root = mirror_folder() / digest(self.location)
        else:
            self.root = Path(root).expanduser().absolute()
            self.location = str(self.root)

    def path(self, address: Address) -> Path:
        """Where an output lies, or will lie, on this machine; one that lies in the object store is fetched first."""
        folder = self.root / str(address)
        if self.bucket is None or not (_whole(folder) or self.done(address)):
            return folder
        return self.fetched(str(address))

    def done(self, address: Address) -> bool:
        if self.bucket is None:
            return _whole(self.root / str(address))
        return self.bucket.exists(f"{address}/{MANIFEST}")

    def finished(self, stage: str) -> list[Address]:
        """The addresses of a stage's outputs, by name."""
        if self.bucket is None:
            names = [path.parent.name for path in (self.root / stage).glob(f"*/{MANIFEST}")]
        else:
            names = [name.split("/")[0] for name in self.bucket.files(stage) if name.endswith(f"/{MANIFEST}")]
        return [Address(stage, *name.rsplit("-", 1)) for name in sorted(names) if not name.startswith(".")]

    def manifest(self, address: Address) -> dict[str, Any]:
        """What was written with the output: config, inputs, seconds, versions, facts of the stage, its files' digests.

        Raises:
            UserError: it can't be read.
        """
        path = self.root / str(address) / MANIFEST
        text = path.read_bytes() if self.bucket is None else self.bucket.read(f"{address}/{MANIFEST}")
        try:
            result: dict[str, Any] = json.loads(text)
        except ValueError as error:
            hint = f"delete {path.parent} and run the same command again"
            raise UserError(f"a stage's manifest can't be read: {error}", where=str(path), hint=hint) from error
        return result

    def scratch(self, address: Address) -> Path:
        """A folder for unfinished work of `address` (checkpoints), the same for every attempt."""
        return self.root / ".scratch" / f"{address.stage}-{address.name}-{address.key}"

    @contextlib.contextmanager
    def writing(self, address: Address, config: Any, inputs: dict[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A fresh folder to write into, and a dict of facts for the manifest; published when the block ends well.

        Two writers of one address do the same work; the first to finish wins.
        """
        target = self.root / str(address)
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
                    "files": self._upload(temporary, address),
                }
                (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))
                sync(temporary)
                if self.bucket is not None and not self.done(address):
                    self.bucket.upload(temporary / MANIFEST, f"{address}/{MANIFEST}")
                self._publish(temporary, self.root / str(address))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.scratch(address), ignore_errors=True)
        if self.bucket is not None:
            self.bucket.delete_folder(self.scratch(address).relative_to(self.root).as_posix())

    def _upload(self, folder: Path, address: Address) -> dict[str, Any]:
        """Digests of an output's files, once all of them but the manifest lie where they belong.

        Files that workers on other machines have uploaded themselves are listed with their size instead.
        """
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        digests: dict[str, Any] = {name: file_digest(folder / name) for name in names}
        if self.bucket is None:
            return digests
        if not self.done(address):
            self.bucket.upload_all(folder, names, str(address))
        return self.bucket.files(str(address)) | digests

    def _publish(self, temporary: Path, target: Path) -> None:
        if not _whole(target):  # a folder without manifest is no writer's work: someone deleted parts of it
            shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(temporary, target)
        except OSError:
            if not _whole(target):
                raise
        _sync_one(target.parent)

    def fetched(self, name: str) -> Path:
        """A finished output, by its address as text, on this machine's disk."""
        folder = RemotePath(self.root / name)
        folder.source = (self.location, name)
        if self.bucket is None or _whole(folder):
            return folder
        temporary = folder.parent / f".tmp-{folder.name}-{uuid.uuid4().hex[:8]}"
        manifest = self.bucket.read(f"{name}/{MANIFEST}")
        files = json.loads(manifest)["files"]
        try:
            with disk_faults(self.root):
                self.bucket.download_all(name, files, temporary)
                for file, known in files.items():
                    found = temporary / file
                    if known not in (found.stat().st_size, file_digest(found)):
                        hint = f"delete {self.location}/{name} and run the same command again"
                        raise UserError(
                            "a file is not what was written", where=f"{self.location}/{name}/{file}", hint=hint
                        )
                (temporary / MANIFEST).write_bytes(manifest)
                self._publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def send(self, path: Path, last: str = "") -> None:
        """To the object store, where the root is one: a file or folder below the mirror; `last`: that file last."""
        if self.bucket is None:
            return
        name = path.relative_to(self.root).as_posix()
        if not path.is_dir():
            self.bucket.upload(path, name)
            return
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        names = [file for file in files if file != last and not Path(file).name.startswith(".tmp-")]
        self.bucket.upload_all(path, names, name)
        if last in files:
            self.bucket.upload(path / last, f"{name}/{last}")

    def receive(self, path: Path) -> None:
        """From the object store, where the root is one: what lies there of a file or folder, over what is here."""
        if self.bucket is None:
            return
        name = path.relative_to(self.root).as_posix()
        if self.bucket.exists(name):
            self.bucket.download(name, path)
        else:
            self.bucket.download_all(name, self.bucket.files(name), path)

    def _sweep(self, folder: Path) -> None:
        """Remove what writers that were killed a day ago or more have left."""
        for leftover in folder.glob(".tmp-*"):
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > KEEP_TEMPORARY_S:
                    shutil.rmtree(leftover, ignore_errors=True)

    def check_space(self, needed_bytes: int) -> None:
        """Refuse to start where the disk has less than `needed_bytes` free, or can't be written."""
        if self.bucket is not None:
            self.bucket.write(".raypref", b"")  # a refusal must be known now
        with disk_faults(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free
        if not os.access(self.root, os.W_OK):
            raise UserError("results can't be written", where=str(self.root), hint="choose another folder by --root")
        if free < needed_bytes:
            raise UserError(
                f"{free / 1e9:.2f} GB are free on the disk; this run may need {needed_bytes / 1e9:.2f} GB",
                where=str(self.root),
                hint="free some space, or choose another folder by --root",
            )


class RemotePath(type(Path())):  # type: ignore[misc]
    """A folder that an object store holds too: sent to another machine, it is fetched there and has its path there."""

    source: tuple[str, str] | None = None

    def __reduce__(self) -> Any:
        return (Path, (str(self),)) if self.source is None else (_fetched, self.source)


def _fetched(location: str, name: str) -> Path:
    return Store(location).fetched(name)


def mirror_folder() -> Path:
    """Where this machine's mirrors of object stores lie."""
    return Path(os.environ.get(MIRROR, "~/.cache/raypref")).expanduser().absolute()


def _whole(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds; empty where there is none that can be read, as while it is first written."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Write content as JSON, whole or not at all."""
    text = json.dumps(content, indent=1, default=str)
    write_atomic(path, lambda temporary: temporary.write_text(text))


def write_atomic(path: Path, write: Callable[[Path], object], synced: bool = True) -> None:
    """Write a file whole or not at all: `write` fills another path beside it, which then takes its name."""
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(temporary)
        if synced:
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
            hint = "free some space and run the same command again"
            raise UserError("the disk is full", where=str(root), hint=hint) from error
        if number in NOT_WRITABLE and _below(error, root):
            hint = "choose another folder by --root"
            raise UserError(f"results can't be written: {error}", where=str(root), hint=hint) from error
        raise


def _below(error: Exception, root: Path) -> bool:
    """Whether the error is of a path at, above or below `root`: another may be a source file's."""
    name = getattr(error, "filename", None)
    path = Path(os.fsdecode(name)).absolute() if name is not None else root
    return path.is_relative_to(root) or root.is_relative_to(path)
