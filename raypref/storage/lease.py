"""Who makes an output: of several processes that need the same one at the same time, one makes it and the others wait.

A lease is a file beside the results, so it holds between terminals, machines and users that share a root. Its owner
renews it as long as it lives; one that has not been renewed for `DEAD_S`, by the waiter's own clock, or whose process
is gone from the waiter's own machine, is taken over. It saves work and keeps nothing valid: should two processes make
one output after all, the first to finish wins (see store.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from raypref.storage.bucket import Bucket
from raypref.storage.store import Address, Store, disk_faults

FOLDER = ".leases"
BEAT_S = 10.0
DEAD_S = 120.0
POLL_S = 1.0
SETTLE_S = 3.0  # that two claims in an object store may need to see each other
READS = 10  # of a claim that is half written, within SETTLE_S
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def leased(store: Store, *addresses: Address) -> Iterator[None]:
    """Wait until nobody else makes any of these outputs, and keep others from it within the block.

    Whoever waited may find an output done.
    """
    with contextlib.ExitStack() as held:
        for address in sorted(addresses, key=str):  # in one order for all, so that no two wait for each other
            held.enter_context(_leased(store, address))
        yield


@contextlib.contextmanager
def _leased(store: Store, address: Address) -> Iterator[None]:
    name, ended = str(address).replace("/", "-"), threading.Event()
    lease: Lease = FileLease(store.root / FOLDER / name) if store.bucket is None else Claim(store.bucket, name)
    renewing = threading.Thread(target=_renew, args=(lease, ended), daemon=True)
    renewing.start()
    try:
        _wait(lease, store, address)
        yield
    finally:
        ended.set()
        renewing.join()
        lease.release()


def _renew(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            lease.renew()
        except Exception as error:  # the work goes on: at worst another takes it over
            logger.warning("the lease could not be renewed: %r", error)


def _wait(lease: Lease, store: Store, address: Address) -> None:
    """Return when the lease is ours, or the output is there."""
    seen, since, told = None, time.monotonic(), False
    while not store.done(address):
        with disk_faults(store.root):
            holder = lease.take()
        if holder is None:
            return
        if not holder.owner:
            continue
        if not told:
            logger.info("%s is being made by process %s on %s: waiting for it", address, holder.pid, holder.host)
            told = True
        if holder != seen:
            seen, since = holder, time.monotonic()
        if _gone(holder) or time.monotonic() - since > DEAD_S:
            logger.info("%s: process %s on %s has died, its work is taken over", address, holder.pid, holder.host)
            lease.remove(holder)
        else:
            time.sleep(POLL_S)


def living(store: Store) -> set[str]:
    """What is being made: the addresses with `-` for `/`, of leases whose owners live as far as can be seen."""
    if store.bucket is not None:  # their clocks are not ours: a claim counts until it is given back or taken over
        return {name.split("/")[0] for name in store.bucket.files(FOLDER)}
    found = set()
    for path in (store.root / FOLDER).glob("[!.]*"):
        lease = FileLease(path)
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < DEAD_S and not _gone(lease._holder()):
                found.add(path.name)
    return found


@dataclass(frozen=True)
class Holder:
    """Whose turn it is; another one each time the lease is renewed."""

    owner: str
    host: str
    pid: int
    renewed: str


def _gone(holder: Holder) -> bool:
    """Whether it is a process of this machine that has ended."""
    if holder.host != socket.gethostname():
        return False
    try:
        return psutil.Process(holder.pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Lease(Protocol):
    """The right to make one output."""

    def take(self) -> Holder | None:
        """Take it if it is free; None where it is ours, else who holds it."""

    def renew(self) -> None:
        """Say that we live."""

    def remove(self, holder: Holder) -> None:
        """End a dead holder's lease, unless it is another's by now."""

    def release(self) -> None:
        """Give it back, if we have it."""


def _own() -> dict[str, Any]:
    return {"owner": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}


class FileLease:
    """On a disk that all see: a hard link is made by one alone, on NFS too."""

    def __init__(self, path: Path) -> None:
        self.path, self.own, self.held = path, _own(), False

    def take(self) -> Holder | None:
        if self.held:
            return None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".tmp-{self.path.name}-{self.own['owner'][:8]}")
        temporary.write_text(json.dumps(self.own))
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return self._holder()
        finally:
            temporary.unlink()
        self.held = True
        return None

    def _holder(self) -> Holder:
        """Of the lease that is there; nobody's, and gone at the next look, where it was given back in between."""
        try:
            with self.path.open() as file:  # to open it makes NFS look at its time anew
                content, renewed = json.loads(file.read()), os.fstat(file.fileno()).st_mtime_ns
        except (FileNotFoundError, ValueError):
            return Holder("", "", 0, "")
        return Holder(content["owner"], content["host"], content["pid"], str(renewed))

    def renew(self) -> None:
        if self.held and self._holder().owner == self.own["owner"]:
            os.utime(self.path)

    def remove(self, holder: Holder) -> None:
        if self._holder() == holder:
            aside = self.path.with_name(f".dead-{self.path.name}-{self.own['owner'][:8]}")
            with contextlib.suppress(FileNotFoundError):  # another waiter was faster
                self.path.rename(aside)
                aside.unlink()

    def release(self) -> None:
        if self.held and self._holder().owner == self.own["owner"]:
            self.path.unlink(missing_ok=True)
        self.held = False


class Claim:
    """In an object store, which need not know conditional writes: each writes a claim of its own, and all see all.

    Of claims made within `SETTLE_S` the least wins, and says that it holds; a later one waits for it.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.bucket, self.folder, self.own = bucket, f"{FOLDER}/{name}", _own()
        self.name, self.renewals = f"{self.folder}/{self.own['owner']}", 0
        self.written, self.held = False, False

    def take(self) -> Holder | None:
        if self.held:
            return None
        if not self.written:
            self.own["claimed"] = time.time()
            self._write()
            time.sleep(SETTLE_S)
        others = [claim for claim in self._claims() if claim["owner"] != self.own["owner"]]
        before = [
            c for c in others if c["held"] or (c["claimed"], c["owner"]) < (self.own["claimed"], self.own["owner"])
        ]
        if before:
            first = min(before, key=lambda claim: (not claim["held"], claim["claimed"], claim["owner"]))
            return Holder(first["owner"], first["host"], first["pid"], str(first["renewals"]))
        self.held = True
        self._write()
        return None

    def _write(self) -> None:
        content = self.own | {"held": self.held, "renewals": self.renewals}
        self.bucket.write(self.name, json.dumps(content).encode())
        self.written = True

    def _claims(self) -> list[dict[str, Any]]:
        found = (self._claim(f"{self.folder}/{name}") for name in self.bucket.files(self.folder))
        return [claim for claim in found if claim is not None]

    def _claim(self, name: str) -> dict[str, Any] | None:
        """A claim; None where it was given back since. One that is just being written is read again: it counts."""
        for _ in range(READS):
            try:
                claim: dict[str, Any] = json.loads(self.bucket.read(name))
            except FileNotFoundError:
                return None
            except ValueError:
                time.sleep(SETTLE_S / READS)
            else:
                return claim
        return None

    def renew(self) -> None:
        if self.written:
            self.renewals += 1
            self._write()

    def remove(self, holder: Holder) -> None:
        self.bucket.delete([f"{self.folder}/{holder.owner}"])

    def release(self) -> None:
        if self.written:
            self.bucket.delete([self.name])
        self.written = self.held = False
