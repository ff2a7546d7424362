"""How a delimited file of one's own is written: separator, encoding, header; found in its first lines, and said."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from raypref.data.hints import options
from raypref.data.sources.delimited import HEAD_BYTES, Layout
from raypref.data.sources.encodings import narrow_encoding, wide_encoding
from raypref.data.sources.guesses import NUMBER, names_by_values
from raypref.data.sources.lines import line_blocks
from raypref.data.sources.opening import HEAD, opened
from raypref.data.sources.quoted import read_header, read_record
from raypref.errors import UserError

SEPARATORS = (",", ";", "\t", "|", "::", "\x01")
NAMES = {",": "comma", "\t": "tab", "|": "bar", " ": "space", "\x01": "the byte 1"}
UNUSUAL = re.compile(r"[^\w\"'.,;|\t-]+")  # between words: ~, ^, blanks ...; looked for where no usual one is there
BEFORE_HEADER = re.compile(r"sep=.{1,2}$|#|//|%|--", re.I)
MOST_SKIPPED = 20
SAMPLE_LINES = 200
SAMPLE_BLOCKS = 8  # of 8 MiB, in which bytes that are no UTF-8 are looked for


@dataclass(frozen=True)
class Dialect:
    """What was found."""

    layout: Layout
    said: str
    """E.g. `separator ;, cp1252`."""


def dialect(
    file: Path,
    wanted: Collection[str],
    separator: str | None = None,
    encoding: str | None = None,
    header: tuple[str, ...] | None = None,
) -> Dialect:
    """The layout of a file, as said or as its bytes suggest; `wanted`: names that its header should hold.

    Raises:
        UserError: the file is empty.
    """
    encoding, said_encoding = _encoding(file, encoding)
    block = next(line_blocks(file, encoding, block_bytes=HEAD_BYTES), None)
    if block is None:
        raise UserError("the file is empty", where=str(file), hint="download or export it again")
    lines = block.text.slice(0, SAMPLE_LINES).to_pylist()
    skip = _skipped(lines, wanted) if header is None else 0
    lines = lines[skip:]
    if not any(line.strip() for line in lines):
        raise UserError("the file is empty", where=str(file), hint="download or export it again")
    _refuse_binary(lines[0], file)
    found = separator or _separator(lines, wanted if header is None else ())
    if separator is None and header is not None and _even(lines, found, len(header)) == 0:
        found = max(SEPARATORS, key=lambda s: (_even(lines, s, len(header)) > 0.5, s == found))  # line 1 is another's
    before = 0
    if header is None:
        before = _row_names(lines, found)
    layout = Layout(found, header or (), "optional" if header else "none", encoding, True, before, skip)
    if found.isspace() and found not in SEPARATORS and len({*re.findall(r"\s+", lines[0].strip())}) > 1:
        raise UserError(
            "the columns seem to be of fixed width, filled up with blanks",
            where=str(file),
            hint=f"write it with separators: pandas.read_fwf('{file.name}').to_csv(..., index=False)",
        )
    said = [
        f"separator {NAMES.get(found, found if found.isprintable() else repr(found))}",
        said_encoding,
        *([f"names in line {skip + 1}"] if skip else []),
    ]
    return Dialect(layout, ", ".join(said))


def headless(file: Path, layout: Layout) -> list[str] | None:
    """Names for the columns of a file whose first line is data like the others; None where it is a header.

    The names are a guess by the values.
    """
    block = next(line_blocks(file, layout.encoding, block_bytes=HEAD_BYTES), None)
    assert block is not None  # `dialect` has seen a line
    rows = [read_header(line, layout.delimiter) for line in block.text.slice(0, SAMPLE_LINES).to_pylist()]
    rows = [row for row in rows if len(row) == len(rows[0])]
    if not any(NUMBER.fullmatch(field) for field in rows[0]):
        return None
    return names_by_values(rows)


def refuse_short_header(file: Path, layout: Layout, given: str | None, columns: dict[str, str]) -> None:
    """Refuse a file whose first line names fewer columns than all other lines have.

    Args:
        given: the separator, where it was said.
        columns: names that are wanted, by key.
    """
    block = next(line_blocks(file, layout.encoding, block_bytes=HEAD_BYTES), None)
    assert block is not None  # `dialect` has seen a line
    lines = block.text.slice(layout.skip, SAMPLE_LINES).to_pylist()
    for separator in [given] if given else SEPARATORS:
        header = read_header(lines[0], separator)
        if len(header) == 1 or any(NUMBER.fullmatch(name) for name in header):
            continue
        rows = [read_header(line, separator) for line in lines[1:]]
        widths = [len(row) for row in rows]
        width = max({*widths}, key=widths.count, default=0)
        if width <= len(header) + 1 or 2 * widths.count(width) < len(widths) or _even(lines, separator, len(header)):
            continue  # one field more: row names
        guess = names_by_values([row for row in rows if len(row) == width])
        named = named_options(guess, columns, {"separator": separator} if separator == given else {})
        raise UserError(
            f"the header names {len(header)} columns, the lines have {width}",
            where=f"{file}, line 1",
            hint=f"write all {width} names there, or name the columns in order here, if this is right: {named}; "
            "line 1 is then refused as broken",
        )


def named_options(names: list[str], columns: dict[str, str], more: dict[str, object] | None = None) -> str:
    """Options for a file whose columns are `names` by our own words."""
    source: dict[str, object] = {**(more or {}), "header": [columns.get(name, name) for name in names]}
    if "title" in columns and "title" not in names:
        source["title"] = columns["item"]
    absent = ("rating", "count", "timestamp")
    return options(source | {key: None for key in absent if key in columns and key not in names})


def _encoding(file: Path, given: str | None) -> tuple[str, str]:
    """Codec of the file's text once UTF-16 is made UTF-8, and what to say of it."""
    with opened(file) as stream:
        wide = wide_encoding(stream.peek(HEAD)[:HEAD])  # type: ignore[attr-defined]
    if wide is not None:
        return "utf-8", wide
    if given is not None:
        return given, given
    bad: list[bytes] = []
    invalid = other = 0
    for block in itertools.islice(line_blocks(file, "utf-8"), SAMPLE_BLOCKS):
        if not block.raw.isascii():
            other += int(pc.sum(pc.invert(pc.string_is_ascii(block.text))).as_py() or 0)
        if block.garbled.any():
            invalid += int(block.garbled.sum())
            if len(bad) < SAMPLE_LINES:
                bad += [line for line in block.raw.splitlines() if not _is_utf8(line)][: SAMPLE_LINES - len(bad)]
    if invalid > 1 and invalid > other / 2:  # else single lines are broken
        name = narrow_encoding(b"\n".join(bad))
        word = re.findall(r"\w*[^\x00-\x7f]+\w*", bad[0].decode(name, "replace"))[0]
        return name, f"{name} (guessed: it is not UTF-8; it holds {word!r})"
    return "utf-8", "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_binary(line: str, file: Path) -> None:
    """Refuse a file whose first line is no text."""
    odd = sum(c == "\ufffd" or (c < " " and c not in "\t\x01\x1c\x1d\x1e\x1f") or "\x7f" <= c < "\xa0" for c in line)
    if odd > max(1, 0.02 * len(line)):
        raise UserError(
            "the file is no text, nor anything else that is read",
            where=str(file),
            hint="write it as CSV (UTF-8) or Parquet",
        )


def _skipped(lines: list[str], wanted: Collection[str]) -> int:
    """How many lines stand before the header, which is the first line with a wanted name: `sep=;` as Excel wants it,
    comments, a caption. A line with several fields may be data: it is never skipped.
    """
    for at, line in enumerate(lines[: MOST_SKIPPED + 1]):
        usual = any({*wanted} & {*read_header(line, s)} for s in SEPARATORS if s in line)
        if usual or 2 * len({*wanted} & {*UNUSUAL.split(line)}) > len({*wanted}):
            return at
        if not BEFORE_HEADER.match(line) and any(len(read_header(line.strip(s), s)) > 1 for s in SEPARATORS):
            return 0
    return 0


def _separator(lines: list[str], wanted: Collection[str]) -> str:
    """The one that finds most wanted names in the first line, then the one that cuts all lines into as many fields."""
    between = UNUSUAL.findall(lines[0])
    others = [] if any(s in lines[0] for s in SEPARATORS) else sorted({*between}, key=between.count, reverse=True)

    def merit(separator: str) -> tuple[int, bool, float]:
        names = read_header(lines[0], separator)
        even = _even(lines, separator, len(names))
        return len({*wanted} & {*names}), len(names) > 1 and even > 0.5, even * len(names)

    return max([*SEPARATORS, *others], key=merit)  # the first of equals


def _even(lines: list[str], separator: str, width: int) -> float:
    """Share of the records below the first line that have `width` fields."""
    at, records, right = 1, 0, 0
    while at < len(lines):
        record = read_record(lines, at, separator, width)
        at += record.lines
        records += 1
        right += record.fields is not None
    return right / max(records, 1)


def _row_names(lines: list[str], separator: str) -> int:
    """1 where every line but the first has one field more, none of them empty at the end and no two alike at the start:
    R's row names; else 0.
    """
    width = len(read_header(lines[0], separator))
    filled = [not line.endswith(separator) for line in lines[1:]]
    more = _even(lines, separator, width) == 0 and _even(lines, separator, width + 1) == 1
    names = [read_header(line, separator)[0] for line in lines[1:]]
    return int(bool(filled) and all(filled) and more and len({*names}) == len(names))
