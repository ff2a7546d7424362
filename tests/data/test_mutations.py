"""Broken inputs: no reader may crash other than with UserError, and no line may vanish without a trace."""

from __future__ import annotations

import gzip
import random
import shutil
import warnings
import zlib
from pathlib import Path

import pytest

from raypref.config.data import FileSource
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.raw_formats import FORMATS

FEW, MANY = 20, 10_000 // len(FORMATS) + 1  # mutations of each format
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
            assert filled - account.lines in (0, 1), (account, filled)  # 1: the header
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
