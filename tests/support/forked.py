"""Commands in processes of their own, forked from one that has imported, once, what they import for seconds.

Of Ray, which reads the environment and starts threads when it is imported, that one knows nothing.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.processes import CHECKOUT

PRELOADED = ["raypref.cli", "raypref.sweeps.sweep", "raypref.stages.in_process", "raypref.stages.policy"]
PRELOADED += ["raypref.results.conclusion", "raypref.sweeps.single"]


class Forked:
    """A command that is under way; as `subprocess.Popen`, but that its output is a file."""

    def __init__(self, command: Sequence[str], env: dict[str, str], cwd: Path, output: Path) -> None:
        """Start it.

        Args:
            command: what `python` would be given: a script of this checkout and its arguments, or `-m`, a module and
                its arguments.
            output: a file that gets all it says, errors too.
        """
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(b"")
        self.output = output
        script = [command[0] if command[0] == "-m" else str(CHECKOUT / command[0]), *command[1:]]
        self.process = start_process(_write_to, (str(output), script, env, str(cwd)))

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        """Its exit code, the negative number of the signal that killed it, None while it runs."""
        return self.process.exitcode

    def said(self, timeout: float) -> str:
        """What it said, once it has ended.

        Raises:
            AssertionError: it goes on after `timeout` seconds; then it is killed.
        """
        self.process.join(timeout)
        text = self.output.read_text(errors="replace")
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {timeout} s:\n{text[-4000:]}")
        return text


def begin() -> None:
    """Have the imports begin."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def start_process(work: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    """A process that has imported `PRELOADED` and calls `work`."""
    begin()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=work, args=arguments, daemon=True)  # ended with the tests' own process
    process.start()
    return process


def _write_to(output: str, command: list[str], env: dict[str, str], cwd: str) -> None:
    os.setsid()  # a group of its own, so that it can be killed with all that it starts
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    run_python(command, env, cwd, {1: descriptor, 2: descriptor})


def run_python(command: list[str], env: dict[str, str], cwd: str, descriptors: dict[int, int]) -> None:
    """Do in this process, for good, what `python *command` does: a script, `-m MODULE` or `-c CODE`.

    Args:
        descriptors: what becomes its standard input, output and error, by their numbers.
    """
    for number, descriptor in descriptors.items():
        os.dup2(descriptor, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # of this process for good
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    try:
        if command[0] == "-c":
            sys.argv = ["-c", *command[2:]]
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(command[1], "<string>", "exec"), main.__dict__)
        elif command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).absolute().parent))
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # Ray's among them, which a process of multiprocessing leaves out
