"""What a sweep's folder says of the commands that made it."""

from __future__ import annotations

import json

from raypref.sweeps.account import commands


def account(command, git="abc", time="t"):
    return {"command": command, "provenance": {"git": git, "time": time, "python": "3.11"}}


def test_each_extension_adds_its_command(tmp_path):
    assert commands(tmp_path, account("a")) == [{"command": "a", "git": "abc", "time": "t"}]
    for command, git in (("a", "abc"), ("b", "abc"), ("b", "abc+changes"), ("a", "abc")):
        told = commands(tmp_path, account(command, git))
        (tmp_path / "sweep.json").write_text(json.dumps({"commands": told}))
    assert [(entry["command"], entry["git"]) for entry in told] == [("b", "abc"), ("b", "abc+changes"), ("a", "abc")]


def test_an_account_that_cannot_be_read_starts_anew(tmp_path):
    for text in ("{", "[]", "{}"):
        (tmp_path / "sweep.json").write_text(text)
        assert len(commands(tmp_path, account("a"))) == 1
