"""Fetches a public data set of the catalog."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from raypref.data.catalog import CATALOG, DataSet
from raypref.data.names import named_source
from raypref.errors import UserError

logger = logging.getLogger(__name__)

TIMEOUT_S = 30
CHUNK = 1 << 20


def download(name: str, root: Path, progress: Callable[[str, int, int], None]) -> Path:
    """Fetch a data set of the catalog into `root`; an interrupted download goes on where it stopped.

    Args:
        progress: told (file, bytes so far, bytes in all or 0 if unknown).

    Returns:
        The folder or file that the data set's source reads.

    Raises:
        UserError: it can't be fetched; the error says what to get by hand and where to put it.
    """
    if name not in CATALOG:
        why = "it is made up" if named_source(name).kind == "generated" else "it is for files of yours"
        raise UserError(f"nothing is downloaded for '{name}': {why}", hint=f"sets to download: {', '.join(CATALOG)}")
    data = CATALOG[name]
    place: Path = root / data.source.path
    logger.info(f"{data.title} ({data.paper})\nterms: {data.licence}")
    folder = root / data.folder
    if not data.addresses:
        raise UserError(f"{data.title} can't be fetched by a program", where=data.licence, hint=_by_hand(data, place))
    folder.mkdir(parents=True, exist_ok=True)
    for address in data.addresses:
        file = folder / address.rsplit("/", 1)[1]
        try:
            if not file.is_file():
                logger.info(f"from {address}")
                fetch(address, file, progress)
            if data.checksum:
                _check(file, data.checksum)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise UserError(
                f"{address} can't be reached: {getattr(error, 'reason', error)}",
                where=str(file),
                hint=f"run this again later, it goes on where it stopped; or by hand: {_by_hand(data, place)}",
            ) from None
        logger.info(f"sha256 {_digest(file, 'sha256')}  {file.name}")
        _unpack(file, folder)
    return place


def _by_hand(data: DataSet, place: Path) -> str:
    what = data.by_hand or "fetch " + " and ".join(data.addresses)
    return f"{what}, and put it so that {place} is there"


def fetch(address: str, file: Path, progress: Callable[[str, int, int], None]) -> None:
    """Fetch one file; what is already in `FILE.part` is not asked for again."""
    part = file.with_name(file.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing is left to send
            raise
        part.replace(file)
        return
    with answer:
        if have and answer.status != 206:  # the server sends the whole file again
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if have else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                have += len(chunk)
                progress(file.name, have, total)
    if total and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")
    part.replace(file)


def _check(file: Path, checksum: str) -> None:
    """Compare with the publisher's MD5; a wrong file is removed, so that the next try starts anew."""
    with urllib.request.urlopen(checksum, timeout=TIMEOUT_S) as answer:
        words = answer.read(4096).decode(errors="replace").replace("=", " ").split()
    wanted = next((w.lower() for w in words if len(w) == 32 and set(w.lower()) <= set("0123456789abcdef")), None)
    found = _digest(file, "md5")
    if wanted is not None and wanted != found:
        file.unlink()
        raise UserError(
            f"the file's MD5 is {found}, its publisher says {wanted}", where=str(file), hint="download it again"
        )


def _digest(file: Path, kind: str) -> str:
    state = hashlib.new(kind, usedforsecurity=False)
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            state.update(chunk)
    return state.hexdigest()


def _unpack(file: Path, folder: Path) -> None:
    """Unpack an archive where it lies; a .gz of one file is read as it is."""
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
        elif file.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(file) as tar:
                tar.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        file.unlink(missing_ok=True)
        raise UserError(f"the archive is damaged: {error}", where=str(file), hint="download it again") from None
