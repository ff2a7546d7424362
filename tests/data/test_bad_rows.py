"""Bad rows are counted, with file, line and reason; too many of them are an error that shows the first five."""

from __future__ import annotations

import gzip
import json

import pytest

from raypref.data.sources import SOURCES
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.lines import line_blocks
from raypref.errors import UserError
from tests.support.raw_formats import (
    FORMATS,
    LENGTH,
    USERS,
    amazon_2018,
    csv_file,
    events,
    goodreads,
    hetrec,
    ml_100k,
    ml_dat,
    recbole,
)


def read(config):
    return SOURCES[config.kind](config)


def spoil(file, lines: dict[int, str], encoding: str = "utf-8") -> None:
    """Replace 1-based lines of a plain or gzipped file."""
    data = file.read_bytes()
    zipped = file.suffix == ".gz"
    rows = (gzip.decompress(data) if zipped else data).decode(encoding).split("\n")
    for number, text in lines.items():
        rows[number - 1] = text
    data = "\n".join(rows).encode(encoding, "surrogateescape")
    file.write_bytes(gzip.compress(data) if zipped else data)


def reasons(log) -> list[tuple[str, int, str]]:
    return [(r["file"], r["line"], r["reason"]) for r in log.rejected.to_pylist()]


def test_each_fault_has_its_line_and_reason(tmp_path):
    config = ml_100k(tmp_path).model_copy(update={"max_bad_lines": 0.2})
    spoil(
        tmp_path / "u.data",
        {
            2: "1\t2\t9\t881250949",
            4: "1\t2\t3\t-5",
            6: "1\t2\t3",
            8: "1\t2\tgood\t881250949",
            10: " \t2\t3\t881250949",
            12: "1\t2\t3\t1300000000000",
            14: "1\t4711\t3\t881250949",
        },
    )
    log = read(config)
    assert reasons(log) == [
        ("u.data", 2, "rating is not in 1..5"),
        ("u.data", 4, "time is not Unix seconds >= 0"),
        ("u.data", 6, "not 4 fields"),
        ("u.data", 8, "rating is not in 1..5"),
        ("u.data", 10, "user is empty"),
        ("u.data", 12, "time is not Unix seconds >= 0"),
        ("u.data", 14, "item has no title"),
    ]
    assert log.rejected["text"][0].as_py() == "1\t2\t9\t881250949"
    assert log.interactions.num_rows == USERS * LENGTH - 7
    account = log.files[0]
    assert (account.lines, account.accepted, account.rejected) == (USERS * LENGTH, USERS * LENGTH - 7, 7)


def test_too_many_bad_rows_are_an_error_with_the_first_five(tmp_path):
    config = ml_100k(tmp_path)
    spoil(tmp_path / "u.data", {i: f"1\t2\t{i}\t3" for i in range(11, 18)})
    with pytest.raises(UserError) as caught:
        read(config)
    assert "7 of 120 lines are broken (5.8%; limit 1.0%)" in str(caught.value)
    assert [f"line {i}: rating is not in 1..5" in str(caught.value) for i in (11, 15, 16)] == [True, True, False]
    assert "--data.source.max-bad-lines" in caught.value.hint


def test_items_without_title_count_against_the_limit(tmp_path):
    config = recbole(tmp_path)
    spoil(tmp_path / "x.item", {3: "2\t \t1995"})
    with pytest.raises(UserError, match="title is empty"):
        read(config)
    with pytest.raises(UserError, match="item has no title"):
        read(config.model_copy(update={"max_bad_lines": 0.04}))
    log = read(config.model_copy(update={"max_bad_lines": 0.3}))
    lost = sum(item == 2 for _, item, _, _ in events())
    assert log.interactions.num_rows == USERS * LENGTH - lost
    assert [r for *_, r in reasons(log)] == ["item has no title"] * lost + ["title is empty"]


def test_bad_encoding_is_one_bad_line(tmp_path):
    config = csv_file(tmp_path)
    file = tmp_path / "mine.csv"
    spoil(file, {5: file.read_text().split("\n")[4].replace("Item", "It\udcffem").replace("Twins", "Tw\udcffins")})
    log = read(config)
    assert reasons(log) == [("mine.csv", 5, "not utf-8 text")]


def test_header_in_the_middle_is_refused(tmp_path):
    config = hetrec(tmp_path)
    spoil(tmp_path / "artists.dat", {9: "id\tname\turl\tpictureURL\r"})
    log = read(config.model_copy(update={"max_bad_lines": 0.2}))
    assert ("artists.dat", 9, "the header again") in reasons(log)


def test_header_may_be_missing_where_the_format_allows_it(tmp_path):
    config = hetrec(tmp_path)
    file = tmp_path / "user_artists.dat"
    file.write_text("\n".join(file.read_text().split("\n")[1:]))
    assert read(config).interactions.num_rows == USERS * LENGTH


def test_cut_off_gzip_is_an_error(tmp_path):
    config = amazon_2018(tmp_path)
    file = tmp_path / "Movies_and_TV_5.json.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="cut off or damaged"):
        read(config)


def test_json_faults_are_found_line_by_line(tmp_path):
    config = goodreads(tmp_path).model_copy(update={"max_bad_lines": 0.1})
    good = gzip.decompress((tmp_path / "goodreads_interactions_poetry.json.gz").read_bytes()).decode().split("\n")
    late = json.loads(good[9]) | {"date_added": "Fri Foo 17 00:00:17 -0700 2017"}
    spoil(
        tmp_path / "goodreads_interactions_poetry.json.gz",
        {3: good[2][:-5], 5: "[1, 2]", 7: '{"user_id": "u1"}', 10: json.dumps(late)},
    )
    log = read(config)
    assert [(line, reason) for _, line, reason in reasons(log)] == [
        (3, "not a JSON object"),
        (5, "not a JSON object"),
        (7, "rating is not in 0..5"),
        (10, "date_added is not a date like Thu Aug 17 00:00:17 -0700 2017"),
    ]


def test_blank_lines_are_no_lines(tmp_path):
    config = ml_dat(tmp_path)
    file = tmp_path / "ratings.dat"
    file.write_text("\n\n" + file.read_text().replace("\n", "\n\r\n", 3))
    log = read(config)
    assert log.interactions.num_rows == log.files[0].lines == USERS * LENGTH


def test_unclosed_quote_costs_one_line(tmp_path):
    config = csv_file(tmp_path)
    file = tmp_path / "mine.csv"
    lines = file.read_text().split("\n")
    spoil(file, {7: lines[6].replace('"', "", 1)})
    assert reasons(read(config)) == [("mine.csv", 7, "a quote is not closed on its line")]


def test_users_with_one_event_are_kept_until_k_core(tmp_path):
    config = recbole(tmp_path)
    with open(tmp_path / "x.inter", "a") as out:
        out.write("99\t1\t4\t1300000000\n")
    assert read(config).users.num_rows == USERS + 1


def test_empty_files_and_missing_ones(tmp_path):
    config = ml_100k(tmp_path)
    (tmp_path / "u.data").write_text("\n\n")
    with pytest.raises(UserError, match="the file is empty"):
        read(config)
    (tmp_path / "u.data").unlink()
    with pytest.raises(UserError, match=r"lacks u\.data"):
        read(config)
    with pytest.raises(UserError, match="there is no"):
        read(config.model_copy(update={"path": tmp_path / "nowhere"}))


@pytest.mark.parametrize("name", FORMATS)
def test_small_blocks_read_the_same(name, tmp_path, monkeypatch):
    config = FORMATS[name](tmp_path)
    whole = read(config)
    monkeypatch.setattr("raypref.data.sources.lines.BLOCK_BYTES", 100)
    monkeypatch.setattr(line_blocks, "__defaults__", (b"\n", False, 100))
    pieces = read(config)
    assert pieces.interactions.equals(whole.interactions)
    assert pieces.items.equals(whole.items)


def test_delimiter_of_two_characters_and_wrong_widths(tmp_path):
    file = tmp_path / "a.dat"
    file.write_text("1::a:b::x\n2::c\n3::d::y::z\n4::e::w\n")
    rows = next(iter(DelimitedFile(file, Layout("::", ("id", "text", "more"))).rows(("id", "text"))))
    assert rows.columns["text"].to_pylist() == ["a:b", None, None, "e"]
    assert rows.reasons() == ["not 3 fields", "not 3 fields"]
