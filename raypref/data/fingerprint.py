"""What a file or folder holds, as a hash: addresses follow content, never paths."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

BLOCK = 1 << 22


def fingerprint(path: Path, pattern: str = "*") -> str:
    """Hash of a file's bytes, or of the names and bytes of a folder's files that match `pattern`.

    A process reads files once, until the size or the time of one changes.
    """
    files = [path] if path.is_file() else sorted(p for p in path.glob(pattern) if p.is_file())
    return _of(tuple((file.absolute(), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=256)
def _of(files: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for file, _, _ in files:
        total.update(file.name.encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(BLOCK):
                total.update(block)
    return total.hexdigest()[:16]
