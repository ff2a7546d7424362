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
BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
# Scripts that show in their letters; other encodings, read so, have letters of several scripts or at impossible places.
SCRIPTS = {
    "cp949": re.compile("[\uac00-\ud7a3]+"),
    "cp1255": re.compile("[\u05d0-\u05ea]+"),
    "cp1256": re.compile("[\u0621-\u064a\u067e\u0686\u0698\u06a9\u06af\u200c]+"),
    "cp874": re.compile("(?![\u0e30\u0e32\u0e33\u0e45])[\u0e01-\u0e3a\u0e40-\u0e4e]+"),
}
NO_WORD = re.compile(
    r"(?<![\u0e01-\u0e2e\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"
    r"|[\u0e31\u0e34-\u0e3a\u0e47][\u0e30-\u0e3a\u0e47]|[\u0e40-\u0e44](?![\u0e01-\u0e2e])"
    r"|[\u05da\u05dd\u05df\u05e3\u05e5\u0629\u0649](?=\w)"
)
"""A Thai mark that stands above no letter, or two of a kind; a vowel before none; a letter that only ends Hebrew or
Arabic words, within one."""
ENOUGH = {"cp949": 1}  # letters that tell a script, by default:
ENOUGH_LETTERS = 20
MIXED = re.compile("[\uac00-\ud7a3][\u4e00-\u9fff]|[\u4e00-\u9fff][\uac00-\ud7a3]|[\u0430-\u044f][\u0410-\u042f]")
"""Hangul and Chinese letters in one word: Chinese, read as Korean. A capital behind a small letter: KOI8, as cp1251."""
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
    for name in ("cp949", "euc_jp", "cp1255", "cp1256", "cp874"):
        if _decodes(sample, name) and _is_script(sample.decode(name), name):
            return codecs.lookup(name).name
    words = [word for word in BETWEEN.split(sample[:SAMPLE]) if not word.isascii()]  # others tell nothing
    # Its measures want some length, but it gives up on what repeats itself: both ways are tried.
    tries = (from_bytes(b" ".join(w), cp_isolation=LIKELY) for w in (10 * words, [*dict.fromkeys(words)]))
    found = (match.encoding for matches in tries for match in matches if not MIXED.search(str(match)))
    for name in (next(found, "cp1252"), "cp1252"):
        if _decodes(sample, name):
            return codecs.lookup(name).name
    return "latin-1"  # has a character for every byte


def _is_script(text: str, name: str) -> bool:
    """Whether text, read in an encoding of one script, is in it; Japanese has kana, which Chinese has not."""
    words = {word for word in re.split(r"[\x00-\x7f]+", text) if word}
    letters = sum(map(len, words))
    if name == "euc_jp":
        return sum(len(KANA.findall(word)) for word in words) >= KANA_SHARE * letters
    whole = all(SCRIPTS[name].fullmatch(word) for word in words)
    return whole and letters >= ENOUGH.get(name, ENOUGH_LETTERS) and NO_WORD.search(text) is None


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True
