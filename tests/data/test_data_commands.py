"""`raypref data ...`: what a person reads."""

from __future__ import annotations

import io
import os

import pytest
import tyro
import yaml
from rich.console import Console

from raypref.commands import data as commands
from raypref.config.data import CandidateConfig, CutConfig
from raypref.errors import UserError
from tests.support.raw_formats import csv_file, hetrec, ml_100k, sdpo_json

CUT = CutConfig(k_core=1, target="next", candidates=CandidateConfig(train_future=3, train_random=3, eval_random=5))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=150)


def text(console: Console) -> str:
    return console.file.getvalue()


def test_list_tells_what_is_here(console, tmp_path, monkeypatch):
    ml_100k(tmp_path / "ml-100k")
    monkeypatch.setenv("RAYPREF_DATA", str(tmp_path))
    commands.list_sets(console)
    lines = {line.split("│")[1].strip(): line for line in text(console).splitlines() if line.startswith("│")}
    assert "yes" in lines["ml-100k"]
    assert "yes" not in lines["ml-1m"]


def test_show_has_sizes_papers_bars_and_three_prompts(console, tmp_path):
    ml_100k(tmp_path)
    commands.show("ml-100k", tmp_path, CUT, console)
    shown = text(console)
    assert "S-DPO" in shown
    assert "1,682" in shown  # the paper's
    assert "u.data: 120 lines, 120 accepted" in shown
    assert "█" in shown
    assert shown.count("a prompt and its answer") == 3
    assert "config " in shown


def test_show_without_times_stops_with_the_reason(console, tmp_path):
    hetrec(tmp_path)
    commands.show("lastfm-hetrec2011", tmp_path, CUT, console)
    assert "no times" in text(console)


def test_show_of_published_examples(console, tmp_path):
    sdpo_json(tmp_path)
    commands.show("lastfm-sdpo", tmp_path, CUT, console)
    assert "56 train, 14 validation, 14 test examples" in text(console)


def test_audit_of_generated_data_finds_no_leak(console):
    assert commands.audit_leaks("generated", console=console) is False
    assert "no place in the list tells the target" in text(console)
    assert "all 400 titles can be said with the tokens of raypref-tiny" in text(console)


@pytest.mark.parametrize("format", ["trl", "recbole", "sdpo-json"])
def test_export_writes_files(format, console, tmp_path):
    ml_100k(tmp_path / "raw")
    files = commands.export("ml-100k", tmp_path / "out", format, tmp_path / "raw", CUT, console=console)
    assert all(file.stat().st_size for file in files)


def test_commands_parse_from_the_command_line(tmp_path, capsys, monkeypatch):
    ml_100k(tmp_path)
    monkeypatch.setitem(os.environ, "COLUMNS", "120")
    arguments = ["show", "ml-100k", "--path", str(tmp_path), "--cut.k-core", "1", "--cut.candidates.eval-random", "5"]
    arguments += ["--cut.candidates.train-random", "2", "--cut.candidates.train-future", "2"]
    tyro.extras.subcommand_cli_from_dict(commands.COMMANDS, args=arguments)
    assert "120 accepted" in capsys.readouterr().out


def test_wrong_names_are_helped(tmp_path):
    with pytest.raises(UserError, match="did you mean 'steam'"):
        commands.data_config("staem")
    with pytest.raises(UserError, match="no files"):
        commands.data_config("generated", tmp_path)


def test_a_config_file_is_a_data_set_too(tmp_path, capsys):
    source = csv_file(tmp_path)
    file = tmp_path / "shop.yaml"
    content = {"data": {"source": {"kind": "csv", "path": str(source.path), "domain": "beer"}, "k_core": 2}}
    file.write_text(yaml.safe_dump(content))
    config = commands.data_config(str(file))
    assert (config.source.path, config.k_core) == (source.path, 2)
    commands.show(str(file))
    said = capsys.readouterr().out
    assert "2-core" in said
    assert "drinking" in said  # the prompt's words follow the domain
    with pytest.raises(UserError, match="says where its data are"):
        commands.data_config(str(file), tmp_path)


def test_what_was_downloaded_is_found(console, tmp_path, monkeypatch):
    """`download` without a folder writes to ./data; there `list`, `show` and a run's config look too."""
    monkeypatch.delenv("RAYPREF_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    ml_100k(tmp_path / "data" / "ml-100k")
    commands.list_sets(console)
    assert "yes" in next(line for line in text(console).splitlines() if "ml-100k" in line)
    commands.show("ml-100k", None, CUT, console)
    assert "u.data: 120 lines, 120 accepted" in text(console)
