"""Text files as blocks of numbered lines, plain or gzipped, in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.errors import UserError

BLOCK_BYTES = 8 << 20
LONGEST_LINE = 64 << 20
Encoding = Literal["utf-8", "latin-1", "utf-8 or latin-1"]
BOM = b"\xef\xbb\xbf"


class LineBlock:
    """Some consecutive lines, blank ones left out.

    Attributes:
        number: (n,) int64, 1-based numbers within the file.
        text: (n,) string array, without line ends; what is not valid text is shown with replacement characters.
        garbled: (n,) bool, true where a line is not valid in the file's encoding.
        raw: the block's bytes as they stand in the file.
    """

    def __init__(self, number: np.ndarray, text: pa.StringArray, garbled: np.ndarray, raw: bytes = b"") -> None:
        self.number, self.text, self.garbled, self.raw = number, text, garbled, raw

    def __len__(self) -> int:
        return len(self.number)


def line_blocks(
    file: Path, encoding: Encoding, until: bytes = b"\n", keep_blank: bool = False, block_bytes: int = BLOCK_BYTES
) -> Iterator[LineBlock]:
    """The lines of `file`; a gzip stream that ends early is an error, as nobody can say what is lost.

    Args:
        until: blocks end with these bytes, so that records of several lines stay whole.
        keep_blank: blank lines are kept, for formats in which they part the records.
    """
    seen = 0
    for raw in _raw_blocks(file, until, block_bytes):
        text, garbled = _decode(raw, encoding)
        number = np.arange(seen + 1, seen + 1 + len(text))
        seen += len(text)
        if not keep_blank:
            filled = np.asarray(pc.binary_length(text)) > 0
            if not filled.all():
                number, text, garbled = number[filled], text.filter(pa.array(filled)), garbled[filled]
        if len(number):
            yield LineBlock(number, text, garbled, raw)


def _raw_blocks(file: Path, until: bytes, block_bytes: int) -> Iterator[bytes]:
    """Pieces of the file's bytes, each ending with `until` but the last."""
    rest = b""
    first = True
    for piece in _pieces(file, block_bytes):
        if first:
            piece, first = piece.removeprefix(BOM), False
        rest += piece
        end = rest.rfind(until)
        if end < 0:
            if len(rest) > LONGEST_LINE:
                raise UserError(
                    f"a line is longer than {LONGEST_LINE >> 20} MiB",
                    where=str(file),
                    mend="is it a text file of this format?",
                )
            continue
        end += len(until)
        yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _pieces(file: Path, size: int) -> Iterator[bytes]:
    try:
        with open_binary(file) as stream:
            while piece := stream.read(size):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"the gzip file is cut off or damaged: {error}",
            where=str(file),
            mend="download it again; its end is missing",
        ) from None
    except OSError as error:
        raise UserError(
            f"the file can't be read: {error.strerror or error}", where=str(file), mend="check it"
        ) from None


def open_binary(file: Path) -> IO[bytes]:
    """The file's bytes, unzipped where its name ends in .gz."""
    return gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb")  # type: ignore[return-value]


def _decode(raw: bytes, encoding: Encoding) -> tuple[pa.StringArray, np.ndarray]:
    """The lines of `raw` as valid text, and which of them had to be mended to be so."""
    if encoding == "latin-1" and not raw.isascii():
        raw = raw.decode("latin-1").encode()
    lines = _split(raw)
    garbled = np.zeros(len(lines), dtype=bool)
    if encoding == "latin-1" or _is_utf8(raw):
        return lines, garbled
    mended: list[str] = []
    for i, line in enumerate(lines.cast(pa.binary()).to_pylist()):  # only a block with a fault is walked
        try:
            mended.append(line.decode())
        except UnicodeDecodeError:
            mended.append(line.decode("latin-1") if encoding == "utf-8 or latin-1" else line.decode(errors="replace"))
            garbled[i] = encoding == "utf-8"
    return pa.array(mended, pa.string()), garbled


def _split(raw: bytes) -> pa.StringArray:
    data = np.frombuffer(raw, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n")) + 1
    if len(data) and (len(ends) == 0 or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    offsets = np.r_[0, ends].astype(np.int32)
    with_ends = pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(raw)])
    return pc.ascii_rtrim(with_ends, characters="\r\n")


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
