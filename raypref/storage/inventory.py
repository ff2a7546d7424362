"""What lies in a store: outputs with their size and age, what each was made from, and who refers to it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from raypref.storage.lease import living
from raypref.storage.store import MANIFEST, Store, write_json

ADDRESS = re.compile(r"[a-z]+/[\w.-]+-[0-9a-f]{12}")
MODEL = "model"


@dataclass(frozen=True)
class Output:
    """A finished stage's output."""

    address: str
    size: int
    """Bytes of all its files."""
    written: float
    """Seconds since the epoch."""
    inputs: tuple[str, ...]
    """Addresses of what it was made from."""

    @property
    def age_s(self) -> float:
        return max(0.0, time.time() - self.written)


def outputs(store: Store) -> dict[str, Output]:
    """All finished outputs, by address."""
    sizes: dict[str, int] = {}
    finished = set()
    for name, size in _files(store):
        stage, _, rest = name.partition("/")
        folder, _, file = rest.partition("/")
        if stage.startswith(".") or folder.startswith(".") or not file:
            continue
        address = f"{stage}/{folder}"
        sizes[address] = sizes.get(address, 0) + size
        if file == MANIFEST:
            finished.add(address)
    return {address: _output(store, address, sizes[address]) for address in sorted(finished)}


def _files(store: Store) -> Iterator[tuple[str, int]]:
    if store.bucket is not None:
        yield from store.bucket.files("").items()
        return
    for path in store.root.glob("[!.]*/*/**/*"):
        with contextlib.suppress(FileNotFoundError):  # deleted since, as a temporary one is
            if path.is_file():
                yield path.relative_to(store.root).as_posix(), path.stat().st_size


def _output(store: Store, address: str, size: int) -> Output:
    manifest = _manifest(store, address)
    written = datetime.fromisoformat(manifest["provenance"]["time"]).timestamp()
    return Output(address, size, written, tuple(manifest["inputs"].values()))


def _manifest(store: Store, address: str) -> dict[str, Any]:
    name = f"{address}/{MANIFEST}"
    text = (store.root / name).read_bytes() if store.bucket is None else store.bucket.read(name)
    content: dict[str, Any] = json.loads(text)
    return content


def referrers(store: Store, found: dict[str, Output]) -> dict[str, set[str]]:
    """Of each output the folders of sweeps, studies and named runs that need it: directly, or to make another."""
    users: dict[str, set[str]] = {}
    for folder, text in _records(store):
        todo = [address for address in ADDRESS.findall(text) if folder not in users.get(address, ())]
        while todo:
            address = todo.pop()
            if folder in users.setdefault(address, set()):
                continue
            users[address].add(folder)
            if address in found:
                todo += found[address].inputs
    return {address: users.get(address, set()) for address in found}


def _records(store: Store) -> Iterator[tuple[str, str]]:
    """The JSON files of all that is no stage's output, with the folder that each belongs to."""
    stages = {address.split("/")[0] for address in outputs_by_name(store)}
    if store.bucket is not None:
        names = [name for name in store.bucket.files("") if name.endswith(".json")]
    else:
        names = [path.relative_to(store.root).as_posix() for path in store.root.glob("[!.]*/**/*.json")]
    for name in names:
        parts = name.split("/")
        if len(parts) < 3 or parts[0] in stages or any(part.startswith(".") for part in parts):
            continue
        with contextlib.suppress(FileNotFoundError):
            text = store.bucket.read(name) if store.bucket is not None else (store.root / name).read_bytes()
            yield "/".join(parts[:2]), text.decode(errors="replace")


def outputs_by_name(store: Store) -> set[str]:
    """The addresses of finished outputs."""
    if store.bucket is not None:
        return {name.removesuffix(f"/{MANIFEST}") for name in store.bucket.files("") if name.endswith(f"/{MANIFEST}")}
    return {path.parent.relative_to(store.root).as_posix() for path in store.root.glob(f"[!.]*/[!.]*/{MANIFEST}")}


def unused(store: Store, older_than_s: float = 0.0) -> list[Output]:
    """Outputs that nobody refers to and nobody makes; those made from others before these."""
    found = outputs(store)
    users, busy = referrers(store, found), living(store)
    kept = {address for address in found if users[address] or address.replace("/", "-") in busy}
    kept |= {address for address, output in found.items() if output.age_s < older_than_s}
    todo = list(kept)
    while todo:  # what a kept one was made from stays too
        for address in found[todo.pop()].inputs:
            if address in found and address not in kept:
                kept.add(address)
                todo.append(address)
    return _dependants_first([output for address, output in found.items() if address not in kept])


def _dependants_first(chosen: list[Output]) -> list[Output]:
    by_address, depth = {output.address: output for output in chosen}, {}

    def measured(address: str) -> int:
        if address not in depth:
            depth[address] = 1 + max((measured(i) for i in by_address[address].inputs if i in by_address), default=0)
        return depth[address]

    return sorted(chosen, key=lambda output: (-measured(output.address), output.address))


def remove(store: Store, addresses: Iterable[str]) -> None:
    """Delete outputs: none is ever seen in part, as each loses its manifest first."""
    for address in addresses:
        if store.bucket is not None:
            store.bucket.delete([f"{address}/{MANIFEST}"])
            store.bucket.delete_folder(address)
        folder = store.root / address
        if folder.exists():
            aside = folder.parent / f".tmp-{folder.name}-{uuid.uuid4().hex[:8]}"
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def drop_model(store: Store, address: str) -> int:
    """Delete the weights of a trained stage, and say so in its manifest; its logs and what was measured stay.

    Returns:
        bytes freed.
    """
    manifest, folder = _manifest(store, address), store.root / address
    weights = [name for name in manifest["files"] if name.startswith(f"{MODEL}/")]
    if not weights:
        return 0
    manifest["files"] = {name: known for name, known in manifest["files"].items() if name not in weights}
    manifest["facts"]["model_dropped"] = True
    if store.bucket is not None:
        freed = sum(size for name, size in store.bucket.files(address).items() if name in weights)
        store.bucket.write(f"{address}/{MANIFEST}", json.dumps(manifest, indent=1, default=str).encode())
        store.bucket.delete(f"{address}/{name}" for name in weights)
    else:
        freed = sum((folder / name).stat().st_size for name in weights)
    if folder.exists():
        write_json(folder / MANIFEST, manifest)
        shutil.rmtree(folder / MODEL, ignore_errors=True)
    return freed


def model_dropped(trained: Path) -> bool:
    """Whether a trained stage's folder has lost its weights by choice."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads((trained / MANIFEST).read_text())["facts"].get("model_dropped"))
    return False
