"""Files of other shapes: odd separators, captions, blank fields, JSON, scripts of other lands, and no tables at all."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from raypref.errors import UserError
from tests.support.own_files import LENGTH, USERS, events, expected, facts, lines, read, said, write

RECORDS = [
    {"user": e.user, "item": e.item, "rating": e.rating, "timestamp": e.time, "title": e.title, "genres": ["a"]}
    for e in events()
]


@pytest.mark.parametrize("separator", ["~", "^", "#", ":", "@@", "   ", "\x1e", "\x1f", "\u00a6", "||"])
def test_unusual_separators_are_found_and_said(separator, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(separator)))
    assert facts(log) == expected()
    shown = "bar" if separator == "||" else separator if separator.isprintable() else repr(separator)
    assert f"separator {shown}" in said(log)


@pytest.mark.parametrize(
    "before", [["sep=,"], ["# made by hand", "# in May, on a Sunday"], ["Ratings of our shop"], ["", "My export", ""]]
)
def test_lines_before_the_names_are_left_out_and_said(before, tmp_path):
    log = read(write(tmp_path / "x.csv", [*before, *lines()]))
    assert facts(log) == expected()
    assert log.files[0].lines == USERS * LENGTH
    assert "names in line" in said(log)


def test_a_line_of_data_before_the_names_is_never_left_out(tmp_path):
    content = lines()
    content.insert(0, content[5])
    with pytest.raises(UserError, match="the first line names no columns"):
        read(write(tmp_path / "x.csv", content))


@pytest.mark.parametrize("end", [",", ",,,", ", ,"])
@pytest.mark.parametrize("every", [1, 3])
def test_blank_fields_past_the_last_column_are_none(end, every, tmp_path):
    content = [line + end if k and k % every == 0 else line for k, line in enumerate(lines())]
    assert facts(read(write(tmp_path / "x.csv", content))) == expected()


def test_a_field_too_many_is_no_row_name(tmp_path):
    """Commas in all titles make lines one field longer, as R's row names do; but these differ from row to row."""
    content = lines(title=lambda e: f"Good, the Bad {e.item}")
    with pytest.raises(UserError, match="not 5 fields"):
        read(write(tmp_path / "x.csv", content))


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_json_lines_are_read(name, tmp_path):
    log = read(write(tmp_path / name, [json.dumps(r) for r in RECORDS]))
    assert facts(log) == expected()
    assert "JSON lines" in said(log)


def test_broken_json_lines_are_counted(tmp_path):
    content = [json.dumps(r) for r in RECORDS]
    content[3], content[7], content[8] = content[3][:-9], '{"user": ["u1"]}', json.dumps(RECORDS[8] | {"title": None})
    log = read(write(tmp_path / "x.jsonl", content), max_bad_lines=0.02)
    assert [(r["line"], r["reason"]) for r in log.rejected.to_pylist()] == [
        (4, "not a JSON object"),
        (8, "user is a list or an object"),
        (9, "title is empty"),
    ]
    assert log.interactions.num_rows == USERS * LENGTH - 3


@pytest.mark.parametrize("indent", [None, 2])
def test_the_hint_for_an_array_of_json_writes_a_file_that_is_read(indent, tmp_path):
    file = write(tmp_path / "x.json", json.dumps(RECORDS, indent=indent))
    with pytest.raises(UserError, match="JSON, but not of one object a line") as caught:
        read(file)
    command = caught.value.hint.split(": ", 1)[1].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert facts(read(tmp_path / "x.jsonl")) == expected()


def _zip(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x80\x04\x95\x10", "a pickle"),
        (_npy(), "an array of NumPy"),
        (_zip("mimetype", "content.xml"), "an OpenDocument sheet"),
        (b"RDX3\nX\n", "a data file of R"),
        (b"\0" * 8 + b"DUCK" + b"\0" * 80, "a DuckDB database"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 80, "a picture"),
        (b"<table><tr><td>user</td></tr></table>", "a web page"),
        (b"-- MySQL dump 10.13\n\nCREATE TABLE `t` (a int);", "a dump of a database in SQL"),
        (b"INSERT INTO t VALUES (1,2);\n", "a dump of a database in SQL"),
        (b"% a comment\n@relation r\n@data\n", "an ARFF file"),
        (bytes(range(256)) * 4, "no text"),
        ("\n".join(lines()).encode("cp500"), "no text"),
        ("\n".join("'" + "','".join(line.split(",")) + "'" for line in lines()).encode(), "which are no quotes"),
        ("\n".join(f'"{line}"' for line in lines()).encode(), "in quotes as a whole"),
        (b"one column\nx\ny\n", "only one column"),
        (b"\n \n\t\n", "the file is empty"),
        ("\n".join("".join(f"{f:<14}" for f in line.split(",")) for line in lines()).encode(), "fixed width"),
        ("\n".join(f"{r}" for r in RECORDS).encode(), "Python literals"),
    ],
)
def test_what_is_no_table_is_named(content, what, tmp_path):
    with pytest.raises(UserError, match=what) as caught:
        read(write(tmp_path / "x.csv", content))
    assert "NAME" not in caught.value.hint


def test_lz4_is_unpacked(tmp_path):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "lz4") as stream:
        stream.write("\n".join(lines()).encode())
    assert facts(read(write(tmp_path / "x.csv", out.getvalue().to_pybytes()))) == expected()


@pytest.mark.parametrize(
    ("encoding", "titles"),
    [
        ("euc_jp", ["千と千尋の神隠し", "七人の侍", "となりのトトロ"]),
        ("euc_jp", ["千と千尋の神隠し"]),
        ("cp949", ["기생충"]),
        ("koi8-r", ["Преступление"]),
        ("koi8-r", ["Война и мир", "Сталкер"]),
        ("cp1255", ["ואלס עם באשיר", "ביקור התזמורת", "סיפור על אהבה וחושך"]),
        ("cp1256", ["باب الحديد", "عمارة يعقوبيان", "كفرناحوم"]),
        ("cp874", ["ฉลาดเกมส์โกง", "ลุงบุญมีระลึกชาติ", "พี่มาก พระโขนง"]),
        ("cp1252", ["Don\u2019t Look Now", "\u201cCrocodile\u201d Dundee", "100 \u20ac"]),
        ("cp1252", ["ÉTÉ"]),
    ],
)
def test_scripts_are_told_apart_and_a_word_of_them_is_shown(encoding, titles, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(title=lambda e: titles[int(e.item[1:]) % len(titles)]), encoding))
    assert all(any(title in found for found in log.items["title"].to_pylist()) for title in titles)
    word = said(log).split("it holds '")[1].split("'")[0]
    assert any(word in title for title in titles)


def test_what_stands_around_an_id_is_none_of_it(tmp_path):
    odd = ["", "\u200b", "\u00a0", "\ufeff", " "]
    content = lines(user=lambda e: e.user + odd[e.rating - 1])
    assert facts(read(write(tmp_path / "x.csv", ["\ufeff" + content[0], *content[1:]], "utf-8-sig"))) == expected()


@pytest.mark.parametrize("word", ["NA", "(null)", "Null", "N/A", "#N/A", "undefined", "NaT"])
def test_what_programs_write_for_nothing_is_no_user(word, tmp_path):
    file = write(tmp_path / "x.csv", lines(user=lambda e: word if e.user == "u3" else e.user))
    log = read(file, max_bad_lines=0.05)
    assert log.users.num_rows == USERS - 1
    assert {r["reason"] for r in log.rejected.to_pylist()} == {"user is missing"}


def test_an_item_of_refused_lines_alone_is_no_item(tmp_path):
    """Else it would be drawn as a candidate."""
    log = read(write(tmp_path / "x.csv", [*lines(), "u0,ghost,5,never,Ghost"]))
    assert "ghost" not in log.items["item_id"].to_pylist()
    assert log.files[0].rejected == 1


def test_a_readme_beside_the_parts_is_none(tmp_path):
    write(tmp_path / "a.csv", lines()[:1] + lines()[1:100])
    write(tmp_path / "b.tsv", lines("\t")[:1] + lines("\t")[100:])
    write(tmp_path / "README.md", "# Ours")
    assert facts(read(tmp_path)) == expected()


def test_values_in_the_names_of_folders_are_never_left_out(tmp_path):
    for rating in (4, 5):
        (tmp_path / f"rating={rating}").mkdir()
        write(tmp_path / f"rating={rating}" / "0.csv", ["user,item,timestamp,title", "u,i,1600000000,T"])
    with pytest.raises(UserError, match="'rating' stand in the names of the folders") as caught:
        read(tmp_path)
    assert "rating None" not in caught.value.hint
