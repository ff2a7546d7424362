"""Ratings and a file of their items, as MovieLens latest has them; files of one's own from the command line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from raypref.commands import data as commands
from raypref.config import RunConfig
from raypref.config.sources import CsvSource, FileOptions
from raypref.data import download
from raypref.data.names import named_source, source_content
from raypref.errors import UserError
from raypref.stages.chain import located
from raypref.stages.identity import source_identity
from tests.support.own_files import LENGTH, USERS, events, expected, facts, lines, read, said, write

RATINGS = ["userId,movieId,rating,timestamp", *(f"{e.user},{e.item},{e.rating},{e.time}" for e in events())]
MOVIES = ["movieId,title,genres", *dict.fromkeys(f"{e.item},{e.title},A|B" for e in events())]
NAMES = {"user": "userId", "item": "movieId"}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "ratings.csv", RATINGS)
    write(tmp_path / "movies.csv", MOVIES)
    return tmp_path


def test_titles_come_from_the_file_of_items(folder):
    for items in (folder / "movies.csv", Path("movies.csv")):  # also beside the interactions
        log = read(folder / "ratings.csv", items=items, **NAMES)
        assert facts(log) == expected()
        assert [a.file for a in log.files] == ["ratings.csv", "movies.csv"]


def test_items_of_another_layout_and_their_own_names(folder):
    rows = [f"{i.split(',')[0]};{i.split(',')[1]}" for i in MOVIES[1:]]
    write(folder / "items.txt", ["id;Name", *rows], "utf-16")
    log = read(folder / "ratings.csv", items="items.txt", items_item="id", title="Name", **NAMES)
    assert facts(log) == expected()
    assert "items.txt: separator ;, utf-16-le" in said(log)
    write(folder / "bare.txt", rows)
    log = read(folder / "ratings.csv", items="bare.txt", items_header=("movieId", "title"), **NAMES)
    assert facts(log) == expected()


def test_interactions_of_items_without_title_are_counted(folder):
    write(folder / "movies.csv", [line for line in MOVIES if not line.startswith("i7,")])
    lost = sum(e.item == "i7" for e in events())
    log = read(folder / "ratings.csv", items="movies.csv", max_bad_lines=0.1, **NAMES)
    assert [r["reason"] for r in log.rejected.to_pylist()] == ["item has no title"] * lost
    assert log.files[0].accepted + log.files[0].rejected == log.files[0].lines


def test_ids_that_one_file_has_as_floats_meet(tmp_path):
    write(
        tmp_path / "r.csv", ["user,item,rating,timestamp", *(f"{e.user},{e.item[1:]}.0,5,{e.time}" for e in events())]
    )
    write(tmp_path / "i.csv", ["item,title", *dict.fromkeys(f"{e.item[1:]},{e.title}" for e in events())])
    assert read(tmp_path / "r.csv", items="i.csv").interactions.num_rows == USERS * LENGTH


def test_a_folder_of_ratings_may_hold_the_items(folder):
    log = read(folder, items="movies.csv", **NAMES)
    assert facts(log) == expected()


def test_items_count_in_addresses_and_are_found_from_elsewhere(folder, monkeypatch):
    source = CsvSource(path=folder / "ratings.csv", items=Path("movies.csv"), **NAMES)
    config = RunConfig.model_validate({"data": {"source": source.model_dump()}})
    assert located(config).data.source.items == folder / "movies.csv"
    before = source_identity(config)
    assert before == source_identity(located(config))
    write(folder / "movies.csv", [*MOVIES, "i99,More,A"])
    assert source_identity(config) != before


def test_numeric_titles_are_warned_of(tmp_path):
    log = read(write(tmp_path / "x.csv", lines(title=lambda e: e.item[1:])))
    assert "WARNING: titles are numbers" in said(log)
    assert "WARNING" not in said(read(write(tmp_path / "y.csv", lines())))


def test_a_file_without_header_is_refused_with_names_that_read_it(tmp_path):
    file = write(tmp_path / "x.dat", [line.replace("u", "").replace("i", "") for line in lines("::")[1:]])
    with pytest.raises(UserError, match="names no columns") as caught:
        read(file)
    assert "--data.source.header user item rating timestamp title" in caught.value.hint
    log = read(file, header=("user", "item", "rating", "timestamp", "title"))
    assert log.files[0].lines == log.interactions.num_rows == USERS * LENGTH


def test_show_reads_a_file_by_its_path_and_column_names(folder, capsys):
    options = ["--user", "userId", "--item", "movieId", "--items", "movies.csv", "--cut.k-core", "1"]
    arguments = ["show", str(folder / "ratings.csv"), *options]
    tyro.extras.subcommand_cli_from_dict(commands.COMMANDS, args=commands.short_options(arguments))
    out = capsys.readouterr().out
    assert "ratings.csv: 240 lines, 240 accepted" in out
    assumed = next(line for line in out.splitlines() if line.startswith("assumed: "))
    assert assumed == "assumed: separator comma, utf-8; times in seconds; ratings 0.5 to 5; no ties"
    assert "ties: 0.0% of" in out


def test_options_of_a_job_are_understood_by_data_commands():
    words = ["show", "x.csv", "--data.source.user", "u", "--data.target", "next", "--data.candidates.eval-random", "3"]
    assert commands.short_options(words)[2:] == [
        "--user",
        "u",
        "--cut.target",
        "next",
        "--cut.candidates.eval-random",
        "3",
    ]


def test_ratings_from_counts_are_said(tmp_path, capsys):
    file = write(tmp_path / "x.csv", lines(rating=lambda e: str(e.rating * 100)))
    own = FileOptions(rating=None, count="rating")
    console = Console(file=io.StringIO(), width=150)
    commands.show(str(file), cut=commands.CutConfig(k_core=1), console=console, own=own)
    assert "ratings derived from counts" in console.file.getvalue()


def test_a_known_format_takes_no_options_of_ones_own(tmp_path):
    with pytest.raises(UserError, match="ml-100k is read as its publisher wrote it"):
        commands.data_config("ml-100k", own=FileOptions(separator=";"))


@pytest.mark.parametrize("name", ["csv", "recbole", "generated", "ml-1m", "lastfm-sdpo", "amazon-2018-books", "steam"])
def test_one_list_of_names(name):
    """What --dataset takes, `data show` takes too, and the other way round."""
    source = commands.data_config(name).source
    content = source_content(name)
    assert RunConfig.model_validate({"data": {"source": content}}).data.source == source == named_source(name)


@pytest.mark.parametrize(
    ("typo", "meant"), [("stem", "steam"), ("ml-1mm", "ml-1m"), ("csvv", "csv"), ("recbol", "recbole")]
)
def test_did_you_mean_across_all_names(typo, meant, tmp_path):
    for call in (
        lambda: commands.data_config(typo),
        lambda: source_content(typo),
        lambda: download.download(typo, tmp_path, lambda *_: None),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert f"did you mean '{meant}'" in str(caught.value)


def test_what_needs_no_download_says_so(tmp_path):
    for name, what in (("generated", "is made up"), ("csv", "it is for files of yours")):
        with pytest.raises(UserError, match=what):
            download.download(name, tmp_path, lambda *_: None)
