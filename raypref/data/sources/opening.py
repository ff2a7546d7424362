"""What a file is, by its bytes and never by its name: unpacked where it is packed, refused where it is no data."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from raypref.errors import UserError

HEAD = 4096
LAYERS = 3  # a browser may have zipped what was zipped already
PARQUET, FEATHER = b"PAR1", b"ARROW1"
DOWNLOAD_AGAIN = "download it again in a browser: the site may want a login or your consent first"

# What people hold for data; each is refused with its name and a way on.
STRANGERS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\s*<(!doctype html|html|head|body|table|!--)", re.I), "a web page, not data", DOWNLOAD_AGAIN),
    (re.compile(rb"\s*<\?xml"), "an XML document, perhaps a server's error message", DOWNLOAD_AGAIN),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS, not the file itself", "run git lfs pull there"),
    (re.compile(rb"SQLite format 3\0"), "an SQLite database", "export the table to CSV: sqlite3 -header -csv"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Excel workbook", "save it as CSV (UTF-8)"),
    (re.compile(rb"%PDF-"), "a PDF", "take the data themselves"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07"), "an archive of 7-Zip or RAR", "unpack it first"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file", "write it as Parquet: pandas.read_hdf(...).to_parquet(...)"),
    (re.compile(rb"Obj\x01"), "an Avro file", "write it as Parquet"),
    (re.compile(rb"ORC[\x00-\x08\x0e-\x1f]"), "an ORC file", "write it as Parquet"),
    (re.compile(rb"FEA1"), "a Feather file of version 1", "write it as Parquet"),
    (re.compile(rb".{257}ustar", re.S), "a tar archive", "unpack it first: tar -xf"),
    (
        re.compile(
            rb"(\s*(--[^\n]*\n|/\*.*?\*/;?))*\s*((create|drop)\s+table|insert\s+into)\b|-- [^\n]* dump", re.I | re.S
        ),
        "a dump of a database in SQL",
        "load it, and export the table to CSV",
    ),
    (re.compile(rb"(%[^\n]*\n|\s)*@relation\s", re.I), "an ARFF file", "write it as CSV, with a line of names"),
    (
        re.compile(rb"\x80[\x02-\x05]"),
        "a pickle of Python, which may run anything when it is read",
        "where you trust it, write it as Parquet: pandas.read_pickle(...).to_parquet(...)",
    ),
    (re.compile(rb"\x93NUMPY"), "an array of NumPy", "write it as Parquet, with a name for each column"),
    (re.compile(rb"RD[XAB][23]\n|[XAB]\n\0\0\0[\2\3]"), "a data file of R", "write it as CSV: write.csv in R"),
    (re.compile(rb".{8}DUCK", re.S), "a DuckDB database", "export the table: COPY table TO 'x.parquet' in DuckDB"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "a picture", "take the data themselves"),
)
WORKBOOKS = {
    "xl/workbook.xml": "an Excel workbook",
    "xl/workbook.bin": "an Excel workbook",
    "content.xml": "an OpenDocument sheet",
}
DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    gzip.zlib.error,  # type: ignore[attr-defined]
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
    NotImplementedError,  # a zip's method of compression
)


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked by gzip, bz2, xz, zstd, lz4 or zip where they are so packed, whatever the name.

    Raises:
        UserError: it is no data (a web page, a workbook ...), or it is damaged or ends early.
    """
    with ExitStack() as stack:
        try:
            stream: Any = stack.enter_context(open(file, "rb"))
            for _ in range(LAYERS):
                kind = next((unpack for magic, unpack in PACKED if magic.match(stream.peek(HEAD)[:HEAD])), None)
                if kind is None:
                    break
                stream = stack.enter_context(io.BufferedReader(kind(stream, file), HEAD * 16))
            head = stream.peek(HEAD)[:HEAD]
            for magic, what, hint in STRANGERS:
                if magic.match(head):
                    raise UserError(f"the file is {what}", where=str(file), hint=hint)
            yield stream
        except DAMAGED as error:
            raise _damaged(file, error) from None
        except OSError as error:
            if error.strerror is None:  # bz2 and zstd say so where their data are bad
                raise _damaged(file, error) from None
            raise UserError(f"the file can't be read: {error.strerror}", where=str(file), hint="check it") from None


def magic_of(file: Path) -> bytes:
    """The file's first bytes as they lie on the disk."""
    try:
        with open(file, "rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise UserError(f"the file can't be read: {error.strerror}", where=str(file), hint="check it") from None


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(
        f"the compressed file is cut off or damaged: {error}", where=str(file), hint="download or export it again"
    )


def _zip_member(stream: IO[bytes], file: Path) -> IO[bytes]:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(stream)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    for part, what in WORKBOOKS.items():
        if part in names:
            raise UserError(f"the file is {what}", where=str(file), hint="save it as CSV (UTF-8)")
    names = [name for name in names if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")]
    if len(names) != 1:
        raise UserError(
            f"the zip archive holds {len(names)} files instead of one: {', '.join(names[:8])}",
            where=str(file),
            hint="unpack it (unzip), and give one of its files by --data.source.path",
        )
    if archive.getinfo(names[0]).flag_bits & 1:
        raise UserError("the zip archive has a password", where=str(file), hint="unpack it first")
    return archive.open(names[0])


PACKED: tuple[tuple[re.Pattern[bytes], Callable[[Any, Path], Any]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), lambda stream, file: gzip.GzipFile(fileobj=stream, mode="rb")),
    (re.compile(rb"BZh[1-9]1AY&SY"), lambda stream, file: bz2.BZ2File(stream)),
    (re.compile(rb"\xfd7zXZ\0"), lambda stream, file: lzma.LZMAFile(stream)),  # noqa: SIM115
    (re.compile(rb"\x28\xb5\x2f\xfd"), lambda stream, file: pa.CompressedInputStream(pa.PythonFile(stream), "zstd")),
    (re.compile(rb"\x04\x22\x4d\x18"), lambda stream, file: pa.CompressedInputStream(pa.PythonFile(stream), "lz4")),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), _zip_member),
)
