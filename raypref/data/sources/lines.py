"""Text files as blocks of numbered lines, packed or not, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.sources.encodings import pieces, wide_encoding
from raypref.data.sources.opening import HEAD, opened
from raypref.errors import UserError

BLOCK_BYTES = 8 << 20
LONGEST_LINE = 64 << 20
MIXED = "utf-8 or latin-1"  # line by line: for files that several hands wrote


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

    def __getitem__(self, part: slice) -> LineBlock:
        return LineBlock(self.number[part], self.text[part], self.garbled[part])

    def joined(self, other: LineBlock) -> LineBlock:
        """The lines of both, one after the other."""
        return LineBlock(
            np.concatenate([self.number, other.number]),
            pa.concat_arrays([self.text, other.text]),
            np.concatenate([self.garbled, other.garbled]),
        )


def line_blocks(
    file: Path, encoding: str, until: bytes = b"\n", keep_blank: bool = False, block_bytes: int = BLOCK_BYTES
) -> Iterator[LineBlock]:
    """The lines of `file`; a packed stream that ends early is an error, as nobody can say what is lost.

    Args:
        encoding: a codec in which a line end is one byte, or `MIXED`. UTF-16 and UTF-32 are seen by themselves.
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
    for piece in _pieces(file, block_bytes):
        rest += piece
        end = rest.rfind(until)
        if end < 0:
            if len(rest) > LONGEST_LINE:
                raise UserError(
                    f"a line is longer than {LONGEST_LINE >> 20} MiB",
                    where=str(file),
                    hint="is it a text file of this format?",
                )
            continue
        end += len(until)
        yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _pieces(file: Path, size: int) -> Iterator[bytes]:
    """The file's text, old Macintosh line ends made new ones."""
    with opened(file) as stream:
        head = stream.peek(HEAD)[:HEAD]  # type: ignore[attr-defined]
        wide = wide_encoding(head)
        narrow = head.decode(wide, "ignore").encode("utf-8", "ignore") if wide else head
        old_ends = b"\r" in narrow[:-1] and b"\n" not in narrow
        for piece in pieces(stream, size, wide):
            yield piece.replace(b"\r", b"\n") if old_ends else piece


def _decode(raw: bytes, encoding: str) -> tuple[pa.StringArray, np.ndarray]:
    """The lines of `raw` as valid text, and which of them had to be mended to be so."""
    if not raw.isascii() and encoding not in ("utf-8", MIXED):
        try:
            raw = raw.decode(encoding).encode()
        except UnicodeError:
            return _line_by_line(raw, encoding)
    elif not _is_utf8(raw):
        return _line_by_line(raw, encoding)
    lines = _split(raw)
    return lines, np.zeros(len(lines), dtype=bool)


def _line_by_line(raw: bytes, encoding: str) -> tuple[pa.StringArray, np.ndarray]:
    """The same where some line is at fault: only such a block is walked."""
    lines = _split(raw)
    garbled = np.zeros(len(lines), dtype=bool)
    codec = "utf-8" if encoding == MIXED else encoding
    mended: list[str] = []
    for i, line in enumerate(lines.cast(pa.binary()).to_pylist()):
        try:
            mended.append(line.decode(codec))
        except UnicodeError:
            mended.append(line.decode("latin-1") if encoding == MIXED else line.decode(codec, "replace"))
            garbled[i] = encoding != MIXED
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
