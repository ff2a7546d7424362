"""A command's own parser reads it, in this process: what it would do after that is left out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import inspect
import io
import itertools
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import tyro

from raypref import cli
from raypref.commands import data, model, store
from raypref.errors import UserError
from raypref.sweeps import options
from tests.support.page_commands import OURS, SHELL, THEIRS, Shown
from tests.support.processes import CHECKOUT

JOBS = ("job", "benchmark", "replicate")
"""Of `raypref.sweeps`: modules that call `run_sweep` once options, config and sweep are known."""
COMMANDS = {"collect": ("collect", "plot"), "dashboard": ("dashboard",), "export": ("export",), "spot": ("watch_spot",)}
COMMANDS |= {name: (name,) for name in ("compare", "watch", "schema", "verify")}
COMMANDS |= {"completion": ("install_completion",)}
"""Of `raypref.commands`: the functions that work once their options are read."""
CONFIGURED = ("run", "adapt", "recommend", "rescore")
"""Of `raypref.commands`: commands that work once `parse` has given them a config."""

GROUPS = {"data": data.COMMANDS, "model": model.COMMANDS, "store": store.COMMANDS}
NAMED = {*cli.COMMANDS, *(f"{group} {name}" for group, names in GROUPS.items() for name in names)}
"""What running text may name without its options."""


class Read(Exception):
    """The command was read to its end."""


def fault(shown: Shown) -> str | None:
    """Why the command would be refused, None if nothing speaks against it."""
    words = shown.words
    if shown.where == "inline" and " ".join(words[1:]) in NAMED:
        return None
    tool = words[0]
    if tool not in {*OURS, *THEIRS, *SHELL}:
        return f"what is {tool}?"
    if tool == "sbatch":
        words = ["raypref", "submit", *words[2:]]
    if words[:3] == ["ray", "job", "submit"]:
        words = words[words.index("--") + 1 :]
    if words[0] == "make":
        return _make(tuple(words[1:]))
    if words[0] == "raypref":
        return _of_cli(tuple(words[1:]))
    if words[0] == "pytest" or words[1:3] == ["-m", "pytest"]:
        return _tests(words)
    if words[0] in ("python", "python3"):
        return _python(tuple(words[1:]))
    return None


def _make(arguments: tuple[str, ...]) -> str | None:
    """What make would run, as far as it is raypref's."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    command = ["make", "-n", "-C", str(CHECKOUT), "--no-print-directory", *arguments]
    planned = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if planned.returncode:
        return planned.stderr.strip()
    lines = re.findall(r"^\S*/(raypref) (.*)$", planned.stdout, flags=re.MULTILINE)
    return next(filter(None, (fault(Shown("Makefile", " ".join(line))) for line in lines)), None)


def _tests(words: list[str]) -> str | None:
    """Files and markers that are there; a word of `-k` that stands in the files."""
    named = [CHECKOUT / word.split("::")[0] for word in words if word.startswith("tests/")]
    if lacking := [path for path in named if not path.exists()]:
        return f"there is no {lacking[0].relative_to(CHECKOUT)}"
    options = dict(itertools.pairwise(words))
    markers = (CHECKOUT / "pyproject.toml").read_text()
    if f'"{options.get("-m", "pytest")}: ' not in markers and options.get("-m", "pytest") != "pytest":
        return f"no marker {options['-m']}"
    files = [file for path in named for file in ([path] if path.is_file() else path.rglob("test_*.py"))]
    text = "\n".join(file.read_text() for file in files)
    wanted = set(re.findall(r"\w+", options.get("-k", ""))) - {"and", "or", "not"}
    return next((f"no test is called {word}" for word in wanted if word not in text), None)


def _python(arguments: tuple[str, ...]) -> str | None:
    if arguments[0] == "-m":
        return None if arguments[1] in ("venv", "pip") else _of_module(arguments[1], arguments[2:])
    here = Path(arguments[0]).absolute()
    script = here if here.is_file() else CHECKOUT / arguments[0]
    if script.name == "NAME.py":  # stands for any job
        return None
    if not script.is_file():
        return f"there is no {arguments[0]}"
    own = rf"^from raypref\.sweeps\.({'|'.join(JOBS)}) import main$|^from raypref import sweep$"
    job = re.search(own, script.read_text(), re.MULTILINE)
    return _of_job(script, arguments[1:]) if job else _of_script(script, arguments[1:])


@functools.cache
def _of_cli(arguments: tuple[str, ...]) -> str | None:
    jobs: list[tuple[Path, tuple[str, ...]]] = []

    def submitted(given: Any, rest: list[str]) -> int:
        jobs.extend((CHECKOUT / script, tuple(rest)) for script in given.scripts)
        return 0

    with contextlib.ExitStack() as patched:
        patched.enter_context(mock.patch("raypref.commands.submit.submit", submitted))
        for name, functions in COMMANDS.items():
            module = importlib.import_module(f"raypref.commands.{name}")
            for function in functions:
                patched.enter_context(mock.patch.object(module, function, _left_out(getattr(module, function))))
        for name in CONFIGURED:
            module = importlib.import_module(f"raypref.commands.{name}")
            patched.enter_context(mock.patch.object(module, "parse", _then_stop(module.parse)))  # type: ignore[attr-defined]
        stubs = {name: _data_command(function) for name, function in data.COMMANDS.items()}
        patched.enter_context(mock.patch.dict(data.COMMANDS, stubs))
        for commands in (model.COMMANDS, store.COMMANDS):
            patched.enter_context(mock.patch.dict(commands, {n: _left_out(f) for n, f in commands.items()}))
        patched.enter_context(_no_files())
        why = _said(cli.main, ("raypref", *arguments))
    missing = next((f"there is no {script.relative_to(CHECKOUT)}" for script, _ in jobs if not script.is_file()), None)
    return why or missing or next(filter(None, (_of_job(*job) for job in jobs)), None)


@functools.cache
def _of_job(script: Path, arguments: tuple[str, ...]) -> str | None:
    if not script.is_file():
        return f"there is no {script.relative_to(CHECKOUT)}"
    with contextlib.ExitStack() as patched:
        for module in JOBS:
            patched.enter_context(mock.patch(f"raypref.sweeps.{module}.run_sweep", return_value=None))
        patched.enter_context(
            mock.patch("raypref.sweeps.fair_tuning.tuned_study", lambda sweep, base, *_: (sweep, base, []))
        )
        patched.enter_context(_no_files())
        return _said(lambda: runpy.run_path(str(script), run_name="__main__"), (script.name, *arguments))


@functools.cache
def _of_script(script: Path, arguments: tuple[str, ...]) -> str | None:
    """Of a script with a parser of its own; one without takes no arguments."""
    text = script.read_text(encoding="utf-8")
    if "parse_args" not in text and "parse(" not in text:
        return f"{script.name} takes no arguments" if arguments else None
    parser = mock.patch.object(argparse.ArgumentParser, "parse_args", _then_stop(argparse.ArgumentParser.parse_args))
    beside = mock.patch.object(sys, "path", [str(script.parent), *sys.path])  # as python does for a script
    with parser, beside, mock.patch.object(options, "parse", _then_stop(options.parse)), _no_files():
        return _said(lambda: runpy.run_path(str(script), run_name="__main__"), (str(script), *arguments))


@functools.cache
def _of_module(name: str, arguments: tuple[str, ...]) -> str | None:
    if not (CHECKOUT / (name.replace(".", "/") + ".py")).is_file():
        return f"there is no module {name}"
    with mock.patch("tyro.cli", _then_stop(tyro.cli)):
        return _said(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True), (name, *arguments))


def _said(main: Callable[[], Any], arguments: tuple[str, ...]) -> str | None:
    """The complaint with which a main function refuses its arguments."""
    output = io.StringIO()
    given = mock.patch.object(sys, "argv", list(arguments))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), given:
        try:
            main()
        except Read:
            return None
        except SystemExit as ended:
            return None if ended.code in (0, None) else " ".join(output.getvalue().split()) or f"exit {ended.code}"
        except UserError as error:
            return str(error)
    return None


def _then_stop(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        raise Read(found)

    return stopped


def _left_out(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        raise Read

    return stopped


def _data_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of `raypref data`: the data set's name is looked up too, unless it is a placeholder."""

    @functools.wraps(function)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        name = inspect.signature(function).bind(*args, **kwargs).arguments.get("name", "NAME")
        if not name.isupper():
            data.data_config(name)
        raise Read

    return stopped


@contextlib.contextmanager
def _no_files() -> Iterator[None]:
    """Data and models need not be here."""
    fetched = mock.patch.object(options, "with_model", lambda config, *_, **__: config)
    with fetched, mock.patch.object(options, "located", lambda config: config):
        yield
