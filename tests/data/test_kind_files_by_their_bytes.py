"""Files by their bytes: packing, encoding, separator, quotes and column types are found whatever the name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from raypref.errors import UserError
from tests.support.own_files import LENGTH, NAMES, USERS, events, expected, facts, lines, read, said, write

PLAIN = ("\n".join(lines()) + "\n").encode()


def _zip(data: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return out.getvalue()


def _zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


PACKINGS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "gzip in parts": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _zstd,
    "zip": lambda data: _zip(data, "x.csv"),
    "zip of macOS": lambda data: _zip(data, "x.csv", "__MACOSX/._x.csv"),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "X.CSV.GZ", "x", "x.parquet"])
def test_magic_bytes_decide_and_not_the_name(packing, name, tmp_path):
    assert facts(read(write(tmp_path / name, PACKINGS[packing](PLAIN)))) == expected()


@pytest.mark.parametrize("packing", ["gzip", "gzip twice", "bz2", "xz", "zstd", "zip"])
def test_a_packed_file_that_ends_early_is_an_error(packing, tmp_path):
    data = PACKINGS[packing](PLAIN)
    for size in (len(data) // 2, len(data) - 3):
        with pytest.raises(UserError, match="cut off or damaged"):
            read(write(tmp_path / "x.csv.gz", data[:size]))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>403</html>", "a web page"),
        (b"\n <HTML><body>Log in</body>", "a web page"),
        (gzip.compress(b"<html>busy</html>", mtime=0), "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (_zip(b"<workbook/>", "xl/workbook.xml", "xl/styles.xml"), "an Excel workbook"),
        (_zip(PLAIN, "ratings.csv", "movies.csv"), "holds 2 files instead of one: ratings.csv, movies.csv"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"SQLite format 3\0" + bytes(100), "an SQLite database"),
        (b"%PDF-1.4\n", "a PDF"),
    ],
)
def test_what_is_no_data_is_named(content, what, tmp_path):
    with pytest.raises(UserError, match=what) as caught:
        read(write(tmp_path / "x.csv.gz", content))
    assert "its end is missing" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_unicode_of_every_width_and_line_end(encoding, end, tmp_path):
    changed = lines(title=lambda e: f"Café № {e.item}")
    log = read(write(tmp_path / "x.csv", changed, encoding, end))
    assert log.interactions.num_rows == USERS * LENGTH
    assert "Café № i0" in log.items["title"].to_pylist()
    assert log.files[0].lines == USERS * LENGTH


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1252", "Amélie à la plage"),
        ("latin-1", "Größenwahn"),
        ("cp1251", "Преступление и наказание"),
        ("cp932", "千と千尋の神隠し"),
        ("gb18030", "霸王别姬 活着"),
        ("cp949", "기생충 올드보이"),
    ],
)
def test_other_encodings_are_guessed_and_said(encoding, title, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(title=lambda e: f"{title} {e.item}"), encoding))
    assert f"{title} i0" in log.items["title"].to_pylist()
    assert "guessed: it is not UTF-8" in said(log)
    assert "utf-8" not in said(log)


def test_an_encoding_that_looks_like_another_can_be_said(tmp_path):
    file = write(tmp_path / "x.csv", lines(title=lambda e: f"Łódź {e.item}"), "cp1250")
    assert "Łódź i0" in read(file, encoding="cp1250").items["title"].to_pylist()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", "\x01"])
def test_separators_are_found_and_said(separator, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(separator)))
    assert facts(log) == expected()
    names = {",": "comma", "\t": "tab", "|": "bar", "\x01": "the byte 1"}
    assert f"separator {names.get(separator, separator)}" in said(log)


def test_a_separator_inside_fields_does_not_win(tmp_path):
    """Genres between bars, as MovieLens has them, and decimal commas between semicolons."""
    log = read(write(tmp_path / "x.csv", lines(title=lambda e: f"A|B|C|D {e.item}")))
    assert "separator comma" in said(log)
    log = read(write(tmp_path / "x.csv", lines(";", rating=lambda e: f"{e.rating - 1},5")))
    assert "separator ;" in said(log)
    assert {r for _, _, r, _, _ in facts(log)} == {0.5, 1.5, 2.5, 3.5, 4.5}


def test_names_in_quotes_with_spaces_empty_and_twice(tmp_path):
    header = '"user", "item" ,rating,timestamp,title,,,note,note'
    rows = [line + ",,,a,b" for line in lines()[1:]]
    assert facts(read(write(tmp_path / "x.csv", [header, *rows]))) == expected()
    with pytest.raises(UserError, match="two columns are called 'title'"):
        read(write(tmp_path / "x.csv", [lines()[0] + ",title", *(line + ",x" for line in lines()[1:])]))


def test_row_names_of_r_are_no_column(tmp_path):
    rows = [f'"{i}",{line}' for i, line in enumerate(lines()[1:], 1)]
    assert facts(read(write(tmp_path / "x.csv", [lines()[0], *rows]))) == expected()


def _titled(tmp_path, titles: dict[str, str], separator: str = ",", header: str = "", **options):
    """The log whose items bear `titles` (by item) as these stand in the file."""
    content = lines(separator, title=lambda e: titles.get(e.item, e.title))
    log = read(write(tmp_path / "x.txt", content), **options)
    return log, dict(zip(log.items["item_id"].to_pylist(), log.items["title"].to_pylist()))


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('"Weird Al" Yankovic', '"Weird Al" Yankovic'),
        ('12" Mix', '12" Mix'),
        ('Say "Hi"', 'Say "Hi"'),
        ('"7"" Single"', '7" Single'),
        ('"The \\"Great\\" One"', 'The "Great" One'),
        ('"The ""Great"" One"', 'The "Great" One'),
        (' "Spaced"', "Spaced"),
        ('"Spaced" ', "Spaced"),
        ('""', None),
    ],
)
def test_quotes_around_and_quotes_that_are_text(separator, written, title, tmp_path):
    log, titles = _titled(tmp_path, {"i3": written}, separator, max_bad_lines=0.1)
    assert titles.get("i3") == title
    if title is not None:
        assert log.rejected.num_rows == 0
        assert log.interactions.num_rows == USERS * LENGTH


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('"Good\nfun"', "Good fun"),
        ('"A\n\nB, ""C""\nD"', 'A B, "C" D'),
        ('"Says \\"no\\"\nand goes"', 'Says "no" and goes'),
    ],
)
def test_line_breaks_in_quotes_are_one_record(written, title, tmp_path):
    log, titles = _titled(tmp_path, {"i3": written})
    assert titles["i3"] == title
    times = sum(e.item == "i3" for e in events())
    account = log.files[0]
    filled = sum(bool(line) for line in written.split("\n"))
    assert (account.lines, account.accepted, account.rejected) == (USERS * LENGTH, USERS * LENGTH, 0)
    assert account.continued == times * (filled - 1)


def test_quotes_of_both_kinds_on_one_line(tmp_path):
    content = lines(rating=lambda e: f'"{e.rating},0"', title=lambda e: f'"{e.title}" live')
    log = read(write(tmp_path / "x.csv", content))
    assert [row[2] for row in facts(log)] == [row[2] for row in expected()]
    assert {row[4] for row in facts(log)} == {f'"{row[4]}" live' for row in expected()}


def test_line_numbers_behind_records_of_several_lines(tmp_path):
    content = lines()
    content[3] = content[3].replace("Title", '"Title\nof two\nlines') + '"'
    content[6] = "u0,i1"
    log = read(write(tmp_path / "x.csv", content))
    assert [(r["line"], r["reason"]) for r in log.rejected.to_pylist()] == [(9, "not 5 fields")]


@pytest.mark.parametrize("end", ['"open', '"open, with comma', 'x "open'])
def test_a_quote_never_closed_costs_at_most_its_line(end, tmp_path):
    content = lines()
    content[5] = content[5].rsplit(",", 1)[0] + "," + end
    log = read(write(tmp_path / "x.csv", content))
    account = log.files[0]
    assert (account.lines, account.continued) == (USERS * LENGTH, 0)
    assert account.rejected == ("comma" in end)
    assert account.accepted + account.rejected == account.lines


def test_two_lone_quotes_do_not_swallow_the_lines_between(tmp_path):
    content = lines("\t")
    content[5] = content[5].replace("Title", '"Title')
    content[9] = content[9] + '"'
    log = read(write(tmp_path / "x.tsv", content))
    assert log.interactions.num_rows == USERS * LENGTH
    assert log.files[0].continued == 0


def test_blocks_may_end_within_a_record(tmp_path, monkeypatch):
    from raypref.data.sources.lines import line_blocks

    content = lines(title=lambda e: f'"{e.title}\nsecond ""line"""')
    file = write(tmp_path / "x.csv", content)
    whole = read(file)
    monkeypatch.setattr(line_blocks, "__defaults__", (b"\n", False, 100))
    pieces = read(file)
    assert facts(pieces) == facts(whole)
    assert pieces.files[0].continued == whole.files[0].continued == USERS * LENGTH


def _frame() -> pd.DataFrame:
    return pd.DataFrame([(e.user, e.item, float(e.rating), e.time, e.title) for e in events()], columns=list(NAMES))


TYPES = {
    "string": lambda c: c.cast(pa.string()),
    "large string": lambda c: c.cast(pa.large_string()),
    "string view": lambda c: c.cast(pa.string_view()),
    "binary": lambda c: c.cast(pa.binary()),
    "dictionary": lambda c: c.cast(pa.string()).dictionary_encode(),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["x.parquet", "X.PARQUET", "x", "x.csv"])
def test_text_of_every_parquet_type(kind, name, tmp_path):
    table = pa.Table.from_pandas(_frame(), preserve_index=False)
    for column in ("user", "item", "title"):
        table = table.set_column(table.column_names.index(column), column, TYPES[kind](table[column]))
    pq.write_table(table, tmp_path / name)
    assert facts(read(tmp_path / name)) == expected()


@pytest.mark.parametrize(
    ("column", "values", "seen"),
    [
        ("rating", [Decimal(f"{e.rating}.50") for e in events()], {1.5, 2.5, 3.5, 4.5, 5.0}),
        ("rating", [e.rating > 3 for e in events()], {1.0, 5.0}),
        ("rating", [np.float32(e.rating) for e in events()], {1.0, 2.0, 3.0, 4.0, 5.0}),
    ],
)
def test_numbers_of_every_parquet_type(column, values, seen, tmp_path):
    frame = _frame()
    if isinstance(values[0], Decimal):
        values = [min(v, Decimal("5.00")) for v in values]
    frame[column] = values
    frame.to_parquet(tmp_path / "x.parquet")
    assert {r for _, _, r, _, _ in facts(read(tmp_path / "x.parquet"))} == seen


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_of_every_parquet_type_are_instants(unit, zone, tmp_path):
    frame = _frame()
    times = pd.to_datetime(frame["timestamp"], unit="s", utc=True).dt.as_unit(unit)
    frame["timestamp"] = times.dt.tz_convert(zone) if zone else times.dt.tz_localize(None)
    frame.to_parquet(tmp_path / "x.parquet", coerce_timestamps=None)
    assert facts(read(tmp_path / "x.parquet")) == expected()


def test_numeric_ids_of_decimals_and_wide_integers(tmp_path):
    frame = _frame()
    frame["user"] = [Decimal(10**20 + int(e.user[1:])) for e in events()]
    frame["item"] = np.array([2**63 + int(e.item[1:]) for e in events()], dtype=np.uint64)
    frame.to_parquet(tmp_path / "x.parquet")
    log = read(tmp_path / "x.parquet")
    assert set(log.users["user_id"].to_pylist()) == {str(10**20 + u) for u in range(USERS)}
    assert str(2**63 + 7) in log.items["item_id"].to_pylist()


def test_feather_folders_of_parts_and_what_lies_beside_them(tmp_path):
    pyarrow.feather.write_feather(_frame(), tmp_path / "x.feather")
    assert facts(read(tmp_path / "x.feather")) == expected()
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    frame = _frame()
    frame[:100].to_parquet(folder / "part-0.parquet")
    frame[100:].to_parquet(folder / "deeper" / "part-1.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").write_bytes(b"crc")
    log = read(folder)
    assert facts(log) == expected()
    assert [a.lines for a in log.files] == [USERS * LENGTH - 100, 100]
    for i in range(2):
        write(tmp_path / "parts" / f"{i}.csv", lines()[:1] + lines()[1 + i * 120 : 121 + i * 120])
    for file in (folder / "part-0.parquet", folder / "deeper" / "part-1.parquet"):
        file.unlink()
    assert facts(read(folder)) == expected()


def test_a_parquet_column_wanted_twice_is_refused(tmp_path):
    table = pa.Table.from_pandas(_frame(), preserve_index=False)
    pq.write_table(table.append_column("title", table["title"]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="two columns are called 'title'"):
        read(tmp_path / "x.parquet")
