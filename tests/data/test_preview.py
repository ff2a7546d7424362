"""A dry run says what the data are and what prepare will refuse, of a large file from its head alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from raypref.commands.run import run
from raypref.config.data import DataConfig
from raypref.config.sources import CsvSource
from raypref.data import preview as module
from raypref.data.preview import preview
from raypref.data.reading import read_log
from raypref.errors import UserError
from tests.support.own_files import ITEMS, LENGTH, USERS, lines, write


def config(path: Path, **settings) -> DataConfig:
    source = {key: settings.pop(key) for key in ("title", "user") if key in settings}
    return DataConfig(source=CsvSource(path=path, **source), k_core=settings.pop("k_core", 2), **settings)


def test_it_says_what_was_found(tmp_path):
    told, refused = preview(config(write(tmp_path / "log.csv", lines())))
    assert refused == []
    assert told[0] == f"data: {USERS} users, {ITEMS} items, {USERS * LENGTH} interactions; 0 lines refused"
    assert told[1] == "ratings: 1 to 5"
    assert told[2] == "times: 2020-09-13 to 2020-12-08"  # 23 days and 9 weeks later
    assert any(line.startswith("examples: ") for line in told)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"user": "customer"}, "customer"), ({"title": "name"}, "name"), ({"k_core": 500}, "k")],
)
def test_what_prepare_will_refuse_is_missing(tmp_path, settings, expected):
    cut = config(write(tmp_path / "log.csv", lines()), **settings)
    _, (refused,) = preview(cut)
    assert refused.startswith("data: ")
    assert expected in refused
    assert "\n" not in refused


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_large_file_the_head_is_read(tmp_path, monkeypatch, packed):
    text = "\n".join(lines()).encode() + b"\n"
    monkeypatch.setattr(module, "WHOLE_BYTES", 100)
    monkeypatch.setattr(module, "HEAD_BYTES", len(text) // 2)
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(text) if packed else text)
    told, refused = preview(config(path))
    assert refused == []
    rows = int(told[0].split(" interactions")[0].split()[-1])
    assert rows == text[: len(text) // 2].count(b"\n") - 1  # whole lines, without the header
    assert "in its first 0 MB" in told[0]
    broken = config(path, user="customer")
    assert preview(broken)[1]


def test_generated_data_need_no_look(tmp_path):
    assert preview(DataConfig()) == ([], [])


def test_the_dry_run_says_so(tmp_path, capsys):
    path = write(tmp_path / "log.csv", lines())
    given = ["--preset", "smoke", "--dataset", "csv", "--data.source.path", str(path), "--root", str(tmp_path / "r")]
    assert run([*given, "--dry-run", "--data.k-core", "2"]) == 0
    said = capsys.readouterr().out
    assert f"data: {USERS} users" in said
    assert "missing: nothing" in said
    with pytest.raises(UserError, match="can't be read as asked"):
        run([*given, "--dry-run", "--data.source.title", "name"])
    assert "missing: data: " in capsys.readouterr().out
    with pytest.raises(UserError, match="there is no column 'name'"):  # before a run is recorded, or Ray started
        run([*given, "--data.source.title", "name"])
    assert not (tmp_path / "r" / "runs").exists()
    assert read_log(config(path)).users.num_rows == USERS
