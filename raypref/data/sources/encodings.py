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
LIKELY = ["cp1252", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"]
LIKELY += ["cp932", "euc_jp", "gb18030", "big5", "cp949"]
SAMPLE = 1 << 16
BETWEEN = re.compile(rb"[\x00-\x3f]+")  # below what may be the second byte of a character
BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
NO_WORD = re.compile(
    r"(?<![\u0e01-\u0e2e\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"
    r"|[\u05da\u05dd\u05df\u05e3\u05e5\u0629\u0649\u03c2](?=\w)"
)
"""A Thai mark that stands above no letter; a letter of Hebrew, Arabic or Greek that only ends words, within one."""
HANGUL = re.compile("[\uac00-\ud7a3\x00-\x7f]+")
KANA = re.compile("[\u3041-\u30fe]")
KANA_SHARE = 0.25  # of the letters of a Japanese text; Chinese has none
ALONE = 0.9  # share of accents and quotes that stand alone among plain letters in the Latin script, never in others


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

    runs = BEYOND_ASCII.findall(sample[:SAMPLE])
    if sum(len(run) == 1 for run in runs) > ALONE * len(runs) and _decodes(sample, "cp1252"):
        return "cp1252"
    for name, sure in (("cp949", _is_korean), ("euc_jp", _is_japanese)):
        if _decodes(sample, name) and sure(sample.decode(name)):
            return codecs.lookup(name).name
    words = [word for word in BETWEEN.split(sample[:SAMPLE]) if not word.isascii()]  # others tell nothing
    # Its measures want some length, but it gives up on what repeats itself: both ways are tried.
    tries = (from_bytes(b" ".join(w), cp_isolation=LIKELY) for w in (10 * words, [*dict.fromkeys(words)]))
    found = (match.encoding for matches in tries for match in matches if not NO_WORD.search(str(match)))
    for name in (next(found, "cp1252"), "cp1252"):
        if _decodes(sample, name):
            return codecs.lookup(name).name
    return "latin-1"  # has a character for every byte


def _is_korean(text: str) -> bool:
    return HANGUL.fullmatch(text) is not None


def _is_japanese(text: str) -> bool:
    letters = [c for c in text if not c.isascii()]
    return len(KANA.findall(text)) >= KANA_SHARE * len(letters)


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True
