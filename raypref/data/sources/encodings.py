"""In which encoding a text file is written, and the file as UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

BOM = b"\xef\xbb\xbf"
WIDE = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Told apart by charset-normalizer. What differs from cp1252 in a few letters alone (cp1250, latin-9 ...) nobody can
# tell from a few names: cp1252 is by far the commonest, and the guess is said.
LIKELY = ["cp1252", "cp1251", "koi8_r", "cp1253", "cp932", "gb18030", "big5", "cp949"]
SAMPLE = 1 << 16
BETWEEN = re.compile(rb"[\x00-\x3f]+")  # below what may be the second byte of a character


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by the mark at the start, or by every other byte being zero; else None."""
    for mark, name in WIDE.items():
        if head.startswith(mark) and b"\0" in head:
            return name
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) >= 8 and zeros.count(0) > 0.7 * len(zeros) and head.count(0) < 0.6 * len(head):
            return name
    return None


def pieces(stream: IO[bytes], size: int, wide: str | None = None) -> Iterator[bytes]:
    """The stream in pieces of UTF-8 (or of its own 8-bit encoding), without a mark at the start; `wide` as said by
    `wide_encoding`. What is half a character becomes invalid UTF-8, so that its line is refused like any other.
    """
    first = True
    decoder = codecs.getincrementaldecoder(wide)("surrogatepass") if wide else None
    while piece := stream.read(size):
        if decoder is not None:
            piece = _utf8(decoder, piece, final=False)
        if first:
            piece, first = piece.removeprefix(BOM), False
        if piece:
            yield piece
    if decoder is not None and (rest := _utf8(decoder, b"", final=True)):
        yield rest


def _utf8(decoder: codecs.IncrementalDecoder, piece: bytes, final: bool) -> bytes:
    try:
        return decoder.decode(piece, final).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # an odd byte at the end, or past the last character that there is
        decoder.reset()
        return b"\xff"


def narrow_encoding(sample: bytes) -> str:
    """The likeliest 8-bit or Asian encoding of lines that are not UTF-8."""
    from charset_normalizer import from_bytes

    words = [word for word in BETWEEN.split(sample[:SAMPLE]) if not word.isascii()]  # others tell nothing
    # Its measures want some length, but it gives up on what repeats itself: both ways are tried.
    tries = (from_bytes(b" ".join(w), cp_isolation=LIKELY).best() for w in (10 * words, [*dict.fromkeys(words)]))
    best = next((found for found in tries if found is not None), None)
    for name in (best.encoding if best is not None else "cp1252", "cp1252"):
        if _decodes(sample, name):
            return codecs.lookup(name).name
    return "latin-1"  # has a character for every byte


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True
