"""How far a stage has come: written by whoever makes it, to a small file that whoever waits for it can read.

A file beside the results holds between processes and machines, with Ray and without: the driver of a sweep, a second
process that waits for the same stage and `raypref watch` read the same. Code that works calls `tell`, as it would log;
where nobody asked (`telling`) that does nothing.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raypref.storage.store import Address, Store, write_atomic

FOLDER = ".headway"
EVERY_S = 1.0  # between two writes on a disk
EVERY_REMOTE_S = 10.0  # and to an object store
SHOWN = {"loss": "loss {:.3f}", "tokens_per_second": "{:,.0f} tokens/s"}
Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Headway:
    """Of a stage: so many steps (batches, shards ...) of so many, since when, and what was last measured."""

    stage: str
    done: int
    total: int
    unit: str
    began: float
    """When the first was told of, in seconds since the epoch, and which that was."""
    first: int
    told: float
    values: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take, at the pace so far; None before there is a pace."""
        made = self.done - self.first
        return None if made <= 0 else (self.told - self.began) / made * max(0, self.total - self.done)

    def __str__(self) -> str:
        parts = [f"{self.unit} {self.done:,}/{self.total:,}"]
        parts += [text.format(self.values[name]) for name, text in SHOWN.items() if name in self.values]
        if self.left is not None:
            parts.append(f"{duration(self.left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """38 s, 12 min, 3.5 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


class _Teller:
    """Writes a stage's file, not too often."""

    def __init__(self, store: Store, address: Address) -> None:
        self.store, self.stage, self.path = store, str(address), _path(store, address)
        self.every = EVERY_S if store.bucket is None else EVERY_REMOTE_S
        self.began: tuple[str, float, int] | None = None
        self.written = 0.0

    def __call__(self, done: int, total: int, unit: str, values: dict[str, float]) -> None:
        now = time.time()
        if self.began is None or self.began[0] != unit or done < self.began[2]:  # another part of its work
            self.began, self.written = (unit, now, done), 0.0
        if now - self.written < self.every:
            return
        self.written = now
        told = Headway(self.stage, done, total, unit, self.began[1], self.began[2], now, values)
        write_atomic(self.path, lambda path: path.write_text(json.dumps(asdict(told))), synced=False)
        self.store.send(self.path)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        if self.store.bucket is not None and self.written:
            self.store.bucket.delete([self.path.relative_to(self.store.root).as_posix()])


_teller: ContextVar[_Teller | None] = ContextVar("teller", default=None)


@contextlib.contextmanager
def telling(store: Store, address: Address) -> Iterator[None]:
    """Within the block, `tell` is about this stage."""
    teller = _Teller(store, address)
    token = _teller.set(teller)
    try:
        yield
    finally:
        _teller.reset(token)
        teller.close()


def tell(done: int, total: int, unit: str = "step", **values: float) -> None:
    """Say how far the stage that is being made has come; about once a second it is written."""
    teller = _teller.get()
    if teller is not None:
        teller(done, total, unit, values)


def counted(pieces: Iterable[Piece], total: int, unit: str) -> Iterator[Piece]:
    """Tell of each piece that was worked on."""
    for done, piece in enumerate(pieces):
        tell(done, total, unit)
        yield piece


def headway(store: Store, address: Address) -> Headway | None:
    """What was last told of a stage; None where it does not run, or has not said anything yet."""
    path = _path(store, address)
    try:
        if store.bucket is not None:
            store.receive(path)
        content: dict[str, Any] = json.loads(path.read_text())
        return Headway(**content)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _path(store: Store, address: Address) -> Path:
    return store.root / FOLDER / f"{str(address).replace('/', '-')}.json"
