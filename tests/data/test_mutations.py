"""Broken inputs: no reader may crash other than with UserError, and no line may vanish without a trace."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
import shutil
import warnings
import zlib
from datetime import datetime, timezone
from pathlib import Path

import pytest

from raypref.config.sources import CsvSource, FileSource
from raypref.data.encoding import answerable
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.data.title_text import normalized
from raypref.errors import UserError
from raypref.models.backbone import train_tokenizer
from tests.support.own_files import NAMES
from tests.support.raw_formats import FORMATS, ITEMS, events

FEW, MANY = 20, 10_000 // len(FORMATS) + 1  # mutations of each format
FEW_OWN, MANY_OWN = 250, 10_000  # files of one's own, written in as many ways
SPLICES = [b"\x00", b"\xff\xfe", b"\xc3\x28", b'"', b"\\", b"\t", b"\n", b"\r\n", b"::", b",", b"-1", b"1e999", b"nan"]
SPLICES += [b"9" * 30, b"{", b"}", b"[" * 300, b"null", b"\xed\xa0\x80", b"\\ud800", "\u2028".encode(), b"=", b"inf"]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes and lines flipped, cut, doubled, swapped, put in."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice([_flip, _splice, _cut_out, _truncate, _double_line, _drop_line, _swap_lines, _header_again])(
            data or b"\n", rng
        )
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _splice(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(SPLICES) + data[at:]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 40) :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.3 else data


def _double_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[: at + 1], *lines[at:]])


def _drop_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _header_again(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), lines[0])
    return b"\n".join(lines)


def _filled_lines(file: Path) -> int | None:
    """Lines of a file that are not blank, counted the slow way; None where a line is not a record."""
    if file.suffix in (".parquet", ".df", ".json") or "beer" in file.name:
        return None
    data = file.read_bytes()
    data = (gzip.decompress(data) if file.suffix == ".gz" else data).removeprefix(b"\xef\xbb\xbf")
    return sum(bool(line.rstrip(b"\r\n")) for line in data.split(b"\n"))


def check_account(log: Log, folder: Path, name: str) -> None:
    """accepted + rejected = lines, the lines are the file's, and the rejected ones are all there."""
    for account in log.files:
        assert account.accepted + account.rejected == account.lines, account
        assert log.rejected["file"].to_pylist().count(account.file) == account.rejected
        filled = _filled_lines(folder / account.file)
        if filled is not None:
            assert filled - account.lines - account.continued in (0, 1), (account, filled)  # 1: the header
    if name not in ("lastfm-1k", "sdpo-json", "llara"):  # there, interactions are not lines
        assert log.interactions.num_rows == log.files[0].accepted


def run(name: str, folder: Path, mutations: int, first_seed: int = 0) -> int:
    """Read `mutations` broken copies of a format; returns how many of them were read."""
    source: FileSource = FORMATS[name](folder / "whole")
    files = sorted(p for p in (folder / "whole").rglob("*") if p.is_file())
    read = 0
    for seed in range(first_seed, first_seed + mutations):
        rng = random.Random(f"{name} {seed}")
        victim = rng.choice(files)
        data = victim.read_bytes()
        broken = folder / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(folder / "whole", broken)
        inside = victim.suffix == ".gz" and rng.random() < 0.8  # else the gzip stream itself is hit
        content = mutate(gzip.decompress(data) if inside else data, rng)
        (broken / victim.relative_to(folder / "whole")).write_bytes(
            gzip.compress(content, 1, mtime=0) if inside else content
        )
        path = broken / source.path.relative_to(folder / "whole")
        config = source.model_copy(update={"path": path, "max_bad_lines": rng.choice([0.01, 0.3, 1.0])})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                log = SOURCES[config.kind](config)
            read += 1
            check_account(log, broken if path.is_dir() else path.parent, name)
        except UserError:
            pass
        except (Exception, zlib.error) as error:
            raise AssertionError(f"{name}, seed {seed}, {victim.name}: {type(error).__name__}: {error}") from error
    return read


@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_are_refused_or_accounted_for(name, tmp_path):
    assert run(name, tmp_path, FEW) > 0 or name in ("parquet", "llara", "sdpo-json")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_broken_files(name, tmp_path):
    run(name, tmp_path, MANY, first_seed=1000)


# One's own file is written in any of these ways, then perhaps mutated.
SEPARATORS = (",", ";", "\t", "|", "::", "\x01", "~", "^", "\x1f")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "cp1251", "gb18030", "koi8-r", "euc_jp")
BEFORE = ("", "", "", "sep=\x01\n", "# made in May\n", "Ratings\n\n")  # lines before the names; \x01: the separator
BLANKS = (0, 0, 0, 1, 3)  # fields past the last column
PACKINGS = (bytes, gzip.compress, bz2.compress, lzma.compress)
TIMES = (
    lambda t: str(t),
    lambda t: str(t * 1000),
    lambda t: f"{t}000000",
    lambda t: f"{t}.5",
    lambda t: datetime.fromtimestamp(t, timezone.utc).isoformat(),
    lambda t: datetime.fromtimestamp(t, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
    lambda t: datetime.fromtimestamp(t, timezone.utc).strftime("%m/%d/%Y %H:%M:%S"),
    lambda t: datetime.fromtimestamp(t, timezone.utc).strftime("%Y%m%d%H%M%S"),
)
RATINGS = (
    str,
    lambda r: str(r * 2),
    lambda r: str(r * 20),
    lambda r: f"{r - 0.5}",
    lambda r: f"{r},0",
    lambda r: str(int(r > 3)),
    lambda r: f"{r}/5",
    lambda r: "\u2605" * int(r),
)
UNICODE = "Cafe\u0301|\ufb01lm|Z\u00fcrich|\u5343\u3068|\u212bngstr\u00f6m|\U0001f44d|a\u2028b|\u00a0no|</s>|x\x0by"
TITLES = {
    "utf-8": UNICODE.split("|"),
    "cp1252": ["Caf\u00e9 \u00e0 la carte", "Gr\u00f6\u00dfe", "\u00c9t\u00e9"],
    "koi8-r": [
        "\u0412\u043e\u0439\u043d\u0430 \u0438 \u043c\u0438\u0440",
        "\u0421\u0442\u0430\u043b\u043a\u0435\u0440",
    ],
    "euc_jp": ["\u5343\u3068\u5343\u5c0b\u306e\u795e\u96a0\u3057", "\u3068\u306a\u308a\u306e\u30c8\u30c8\u30ed"],
    "cp1251": ["\u0412\u043e\u0439\u043d\u0430 \u0438 \u043c\u0438\u0440"],
    "gb18030": ["\u9738\u738b\u522b\u59ec \u6d3b\u7740", "\u8ba9\u5b50\u5f39\u98de"],
}
QUOTES = (
    lambda t: t,
    lambda t: '"' + t.replace('"', '""') + '"',
    lambda t: f'12" {t}',
    lambda t: f'"{t}" live',
    lambda t: f'"{t}\n{t}"',
    lambda t: '"' + f'\\"{t}\\"' + '"',
)


def written(rng: random.Random, mutated: bool) -> tuple[bytes, str, list[str]]:
    """A file of one's own, its text, and the titles as they stand in it."""
    encoding, separator, end = rng.choice(ENCODINGS), rng.choice(SEPARATORS), rng.choice(["\n", "\r\n", "\r"])
    time = rng.choice(TIMES)
    rating = rng.choice(RATINGS if encoding.startswith("utf") else RATINGS[:-1])  # others have no star
    quote = QUOTES[0] if separator == "::" else rng.choice(QUOTES)  # such files have no quotes
    names = TITLES[encoding if encoding in TITLES else "utf-8"]
    titles = {i: f"{names[i % len(names)]} {i}" for i in range(1, ITEMS + 1)}
    fields = [[f"u{u}", f"i{i}", rating(r), time(t), quote(titles[i])] for u, i, r, t in events()]
    if separator == ",":
        fields = [[f'"{f}"' if "," in f and not f.startswith('"') else f for f in row] for row in fields]
    blank = separator * rng.choice(BLANKS)
    text = "\n".join([separator.join(NAMES), *(separator.join(row) + blank for row in fields)]) + "\n"
    text = rng.choice(BEFORE).replace("\x01", separator) + text
    if mutated:
        text = mutate(text.encode(), rng).decode("utf-8", "replace")
    text = text.replace("\n", end)
    return rng.choice(PACKINGS)(text.encode(encoding, "replace")), text, list(titles.values())


def filled_lines(text: str) -> int | None:
    """Lines that are not blank; None where old and new line ends are mixed."""
    if "\n" not in text:
        text = text.replace("\r", "\n")
    elif text.count("\r") > text.count("\n"):
        return None
    return sum(bool(line.rstrip("\r")) for line in text.removeprefix("\ufeff").split("\n"))


def run_own(folder: Path, files: int, first_seed: int = 0) -> tuple[int, list[str]]:
    """Read files of one's own, every other one mutated; how many mutated ones were read, and all accepted titles."""
    accepted: dict[str, None] = {}
    read = 0
    for seed in range(first_seed, first_seed + files):
        rng = random.Random(f"own {seed}")
        mutated = bool(seed % 2)
        data, text, titles = written(rng, mutated)
        file = folder / "x.csv"
        file.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                log = SOURCES["csv"](CsvSource(path=file, max_bad_lines=rng.choice([0.01, 0.3, 1.0])))
        except Exception as error:
            if mutated and isinstance(error, UserError):
                continue
            raise AssertionError(f"own, seed {seed}: {type(error).__name__}: {error}") from error
        account = log.files[0]
        assert account.accepted + account.rejected == account.lines, f"own, seed {seed}: {account}"
        assert log.interactions.num_rows == account.accepted
        filled = filled_lines(text)
        if filled is not None:
            names = re.search(r"names in line (\d+)", "; ".join(log.assumed))
            most = int(names[1]) if names else 1  # the lines to the names are no data
            assert 0 <= filled - account.lines - account.continued <= most, f"own, seed {seed}: {account}, {filled}"
        found = log.items["title"].to_pylist()
        if mutated:
            read += 1
        else:
            assert account.accepted == len(events()), f"own, seed {seed}: {log.rejected.to_pylist()[:2]}"
            assert all(any(normalized(t) in f for f in found) for t in titles), f"own, seed {seed}: {found[:3]}"
        accepted |= dict.fromkeys(found)
    return read, list(accepted)


def check_titles(titles: list[str]) -> None:
    """What is accepted can be answered: in its one form, on one line, and said by a model's tokenizer."""
    assert all(title and normalized(title) == title for title in titles)
    said = answerable(train_tokenizer(titles[:1000], 500), titles)
    assert [title for title, ok in zip(titles, said) if not ok] == []


@pytest.mark.measures
def test_own_files_of_any_make_are_read_and_their_titles_can_be_answered(tmp_path):
    read, titles = run_own(tmp_path, FEW_OWN)
    assert read > FEW_OWN // 10
    check_titles(titles)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_own_files(tmp_path):
    _, titles = run_own(tmp_path, MANY_OWN, first_seed=10_000)
    check_titles(titles)
