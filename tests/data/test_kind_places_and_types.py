"""A file that is not there, or given for a name; columns of Parquet that are structs or times; rows written twice."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from raypref.commands import data as commands
from raypref.config.sources import CsvSource
from raypref.data.names import source_content
from raypref.data.sources import SOURCES
from raypref.data.sources.files import find
from raypref.errors import UserError
from tests.support.own_files import LENGTH, USERS, events, lines, write


def test_a_missing_file_is_told_once_with_the_one_that_is_like_it(tmp_path):
    write(tmp_path / "orders.tsv", lines())
    with pytest.raises(UserError, match=r"ordrs\.tsv: did you mean orders\.tsv\?\n") as caught:
        find(tmp_path / "ordrs.tsv", "your interactions")
    assert caught.value.where == str(tmp_path / "ordrs.tsv")
    with pytest.raises(UserError, match=r"other\.txt\n"):
        find(tmp_path / "other.txt", "your interactions")


def test_a_file_or_folder_may_stand_for_a_name(tmp_path):
    file = write(tmp_path / "my orders.csv", lines())
    assert source_content(str(file)) == {"kind": "csv", "path": str(file)}
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "u.data", lines())
    assert source_content(str(tmp_path / "folder")) == {"kind": "ml-100k", "path": str(tmp_path / "folder")}
    with pytest.raises(UserError, match="no data set is called"):
        source_content(str(tmp_path / "other.csv"))


def test_a_file_called_like_a_data_set_changes_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "ml-100k", lines())
    assert source_content("ml-100k")["kind"] == "ml-100k"


def _parquet(folder: Path) -> Path:
    rows = events()
    columns = {
        "user": [e.user for e in rows],
        "item": [e.item for e in rows],
        "rating": [e.rating for e in rows],
        "timestamp": pa.array([datetime.fromtimestamp(e.time, timezone.utc) for e in rows], pa.timestamp("us", "UTC")),
        "title": [e.title for e in rows],
        "film": [{"name": e.title, "minutes": 90} for e in rows],
    }
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return folder / "x.parquet"


def test_a_struct_column_is_refused_with_its_fields_and_the_way_to_flatten_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = _parquet(tmp_path)
    with pytest.raises(UserError, match="column film holds struct") as caught:
        SOURCES["csv"](CsvSource(path=file, title="film"))
    fields, _, way = caught.value.hint.partition(": ")
    assert fields == "its fields are name, minutes"
    assert "(film.name ...)" in way
    exec(f"import pyarrow.parquet; {way.partition(' by ')[2]}", {})  # what the hint says, to the letter
    log = SOURCES["csv"](CsvSource(path=Path("flat.parquet"), title="film.name"))
    assert log.interactions.num_rows == USERS * LENGTH


def test_times_by_type_are_not_said_to_be_seconds(tmp_path):
    log = SOURCES["csv"](CsvSource(path=_parquet(tmp_path)))
    assert log.assumed[1] == "times as the file's type has them, to the second"
    assert log.interactions["timestamp"][0].as_py() in {e.time for e in events()}


@pytest.mark.parametrize("again", [0, 3])
def test_rows_written_again_are_counted(tmp_path, again):
    rows = lines()
    file = write(tmp_path / "x.csv", [*rows, *rows[1 : 1 + again]])
    console = Console(record=True, width=200)
    commands.show(str(file), console=console)
    said = f"repeated: {again} rows have user, item and time of another, only the first meeting counts"
    assert (said in console.export_text()) == bool(again)
