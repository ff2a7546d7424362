"""Results in an object store: files go there and come back, however often the store fails for a while.

An object store has no rename: what makes a folder valid is the file that is uploaded last.
"""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyarrow import fs

from raypref.errors import UserError
from raypref.storage.location import Location

PATIENCE_S = 180.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
AT_ONCE = 8
BLOCK = 8 << 20
# What time does not mend, in the words of the stores' clients.
REFUSALS = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "PERMISSION_DENIED")
Result = TypeVar("Result")


def is_address(root: str | Path) -> bool:
    """Whether results lie in a store with an address (s3://, gs://) and not in a folder."""
    return "://" in str(root)


class Bucket:
    """Files below one address of an object store, or of any file system that pyarrow or fsspec reaches."""

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: how long an operation that fails is tried again before it counts as failed."""
        self.address, self.patience_s = address, patience_s
        self.location = self._try(lambda: Location.of(address), "")

    @staticmethod
    @functools.cache
    def at(address: str) -> Bucket:
        """The bucket of an address, its connections shared by all who ask."""
        return Bucket(address)

    def exists(self, name: str) -> bool:
        return self._try(lambda: (self.location / name).is_file(), name)

    def read(self, name: str) -> bytes:
        """Raises: FileNotFoundError."""
        return self._try((self.location / name).read_bytes, name)

    def files(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of all files below `folder` (""; the whole), by their path there; none where there is none."""
        location = self.location / folder if folder else self.location
        selector = fs.FileSelector(location.path, recursive=True, allow_not_found=True)
        found = self._try(lambda: location.files.get_file_info(selector), folder)
        start = len(location.path) + 1
        return {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}

    def write(self, name: str, content: bytes) -> None:
        def put() -> None:
            location = self.location / name
            self._make_parent(location)
            with location.files.open_output_stream(location.path) as stream:
                stream.write(content)

        self._try(put, name)

    def upload(self, path: Path, name: str) -> None:
        """A file, whole or (in an object store) not at all."""

        def put() -> None:
            location = self.location / name
            self._make_parent(location)
            with path.open("rb") as file, location.files.open_output_stream(location.path) as stream:
                while block := file.read(BLOCK):
                    stream.write(block)

        self._try(put, name)

    def download(self, name: str, path: Path) -> None:
        def get() -> None:
            location = self.location / name
            with location.files.open_input_stream(location.path) as stream, path.open("wb") as file:
                while block := stream.read(BLOCK):
                    file.write(block)

        path.parent.mkdir(parents=True, exist_ok=True)
        self._try(get, name)

    def upload_all(self, folder: Path, names: Iterable[str], prefix: str) -> None:
        """Files of a local folder, several at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self.upload(folder / name, f"{prefix}/{name}"), names))

    def download_all(self, prefix: str, names: Iterable[str], folder: Path) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self.download(f"{prefix}/{name}", folder / name), names))

    def delete(self, names: Iterable[str]) -> None:
        """Files, those that are gone already included."""

        def remove(name: str) -> None:
            location = self.location / name
            try:
                location.files.delete_file(location.path)
            except FileNotFoundError:
                return

        for name in names:
            self._try(functools.partial(remove, name), name)

    def delete_folder(self, folder: str) -> None:
        self.delete([f"{folder}/{name}" for name in self.files(folder)])

    def _make_parent(self, location: Location) -> None:
        if not isinstance(location.files, (fs.S3FileSystem, fs.GcsFileSystem)):  # those have no folders to make
            location.files.create_dir(location.parent.path, recursive=True)

    def _try(self, operation: Callable[[], Result], name: str) -> Result:
        """Once more after each failure, with pauses that double, until patience ends."""
        deadline, pause = time.monotonic() + self.patience_s, FIRST_PAUSE_S
        while True:
            try:
                return operation()
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of this machine's disk
                    raise
                refused = isinstance(error, PermissionError) or any(text in str(error) for text in REFUSALS)
                if refused or time.monotonic() + pause > deadline:
                    raise self._fault(error, name, refused) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _fault(self, error: OSError, name: str, refused: bool) -> UserError:
        why = str(error).splitlines()[0][:300]
        if refused:
            hint = "check the address and your rights there (for S3: AWS_PROFILE, or the machine's role)"
            return UserError(f"the results' store refuses: {why}", where=f"{self.address}/{name}", hint=hint)
        hint = "run the same command again when it does: nothing that is finished is repeated"
        what = f"the results' store has not answered for {self.patience_s:.0f} s: {why}"
        return UserError(what, where=f"{self.address}/{name}", hint=hint)
