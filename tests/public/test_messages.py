"""Messages of the command line: plain lines, warnings on stderr; modules log, and only a command prints its answer."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import raypref
from raypref.messages import Lines, show_messages

PACKAGE = Path(raypref.__file__).parent
LIBRARY = ("data", "models", "training", "evaluation", "recommenders", "results", "objectives", "config", "testing")
"""Rooms that no command's answer comes from."""


@pytest.fixture
def _as_before() -> Iterator[None]:
    logger = logging.getLogger("raypref")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


@pytest.mark.usefixtures("_as_before")
def test_lines_are_plain_and_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages()
    show_messages()
    logger = logging.getLogger("raypref.data.download")
    logger.debug("unseen")
    logger.info("from %s [bold]100 %%", "there")
    logger.warning("a lost line")
    assert capsys.readouterr() == ("from there [bold]100 %\n", "a lost line\n")
    assert sum(isinstance(handler, Lines) for handler in logging.getLogger("raypref").handlers) == 1


def test_the_library_prints_nothing() -> None:
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for room in LIBRARY
        for path in (PACKAGE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []
