"""The one form of a title, from the file that it is read from to the answer that it is compared with."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

GAP = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # white space, every line break of Unicode, controls
PLAIN = r"^[!-~]+( [!-~]+)*$"  # ASCII words with single spaces are in this form already


def normalized(text: str) -> str:
    """The text in Unicode's composed form (NFC), on one line: a run of white space or controls is one space.

    Idempotent. Nothing is left of a text that has only such characters.
    """
    return GAP.sub(" ", unicodedata.normalize("NFC", text)).strip()


def normalized_column(column: pa.Array) -> pa.Array:
    """`normalized` of each text, null for null; texts that are so already cost no more than a look."""
    plain = pc.fill_null(pc.match_substring_regex(column, PLAIN), True)
    if pc.all(plain).as_py() in (True, None):
        return column
    coded = column.filter(pc.invert(plain)).dictionary_encode()
    texts = pa.array([normalized(text) for text in coded.dictionary.to_pylist()], column.type)
    return pc.replace_with_mask(column, pc.invert(plain), texts.take(coded.indices))


def first_line(text: str) -> str:
    """The first line that is not blank, stripped; empty where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
