"""A folder or file of results, on a disk or in an object store (s3://, gs://), read through pyarrow's file systems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
from pyarrow import fs

from raypref.errors import UserError


@dataclass(frozen=True)
class Location:
    """A path of a file system; reading only."""

    files: fs.FileSystem
    path: str

    @classmethod
    def of(cls, where: str | Path | Location) -> Location:
        """A local path, or a URI such as s3://bucket/folder.

        Raises:
            UserError: a URI that neither pyarrow nor fsspec knows, or whose store can't be reached.
        """
        if isinstance(where, Location):
            return where
        if isinstance(where, Path) or "://" not in where:
            return cls(fs.LocalFileSystem(), str(Path(where).expanduser().absolute()))
        try:
            files, path = _opened(where)
        except (OSError, ValueError, ImportError) as error:  # pyarrow's own errors are of the first two kinds
            hint = "give a folder, or a URI such as s3://bucket/results or gs://bucket/results"
            raise UserError(f"the results' store can't be opened: {error}", where=where, hint=hint) from error
        return cls(files, path.rstrip("/"))

    def __truediv__(self, name: str | Path) -> Location:
        return Location(self.files, f"{self.path.rstrip('/')}/{name}" if self.path else str(name))

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]

    @property
    def parent(self) -> Location:
        return Location(self.files, self.path.rpartition("/")[0] or ("/" if self.path.startswith("/") else ""))

    @property
    def local(self) -> Path | None:
        """The same as a path, None if it is not on this machine's disks."""
        return Path(self.path) if isinstance(self.files, fs.LocalFileSystem) else None

    def is_file(self) -> bool:
        return bool(self.files.get_file_info(self.path).type == fs.FileType.File)

    def read_bytes(self) -> bytes:
        """Raises: OSError (FileNotFoundError among them): it can't be read."""
        with self.files.open_input_file(self.path) as file:
            return file.read()

    def list(self, suffix: str) -> list[Location]:
        """Files right below whose name ends so, by name, hidden ones left out; none where there is no such folder."""
        found = self.files.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        files = [Location(self.files, info.path) for info in found if info.type == fs.FileType.File]
        return sorted(
            (file for file in files if file.name.endswith(suffix) and not file.name.startswith(".")),
            key=lambda file: file.name,
        )


def _opened(where: str) -> tuple[fs.FileSystem, str]:
    """A URI's file system and path: pyarrow's own, else one of fsspec's."""
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(where)
        return found
    except pa.ArrowInvalid:
        files, path = fsspec.core.url_to_fs(where)  # ValueError: unknown there too
        return fs.PyFileSystem(fs.FSSpecHandler(files)), path
