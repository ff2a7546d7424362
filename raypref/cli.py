"""`raypref ...`: the same functions that the jobs call."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import tyro
from rich.console import Console

from raypref.errors import UserError

USAGE = """usage: raypref COMMAND [options]

  submit JOB [options]   run a job on Ray: the cluster of RAY_ADDRESS, or this machine
  run [options]          one run: prepare, fine-tune, align, evaluate
  recommend [options]    what a run's model recommends to a user
  rescore [options]      an outside system's scores join a benchmark's table
  collect FOLDER         gather a sweep's results again: tables, curves, answer
  objectives [NAME]      the objectives, or one in full
  data COMMAND           list, download, show, audit and export data sets

`raypref COMMAND --help` tells more.
"""


def main() -> None:
    """Entry point: exits with 2 for a mistake that the user can mend."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    command, rest = arguments[0], arguments[1:]
    try:
        if command not in COMMANDS:
            from raypref.config.base import pick

            pick(command, COMMANDS, "command")
        sys.exit(COMMANDS[command](rest))
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing it at exit fails once more
        sys.exit(128 + signal.SIGPIPE)


def _submit(arguments: list[str]) -> int:
    from raypref.commands.submit import Submit, submit

    script = next((i for i, a in enumerate(arguments) if a.endswith(".py")), len(arguments))
    return submit(tyro.cli(Submit, args=arguments[: script + 1], prog="raypref submit"), arguments[script + 1 :])


def _run(arguments: list[str]) -> int:
    from raypref.commands.run import run

    return run(arguments)


def _recommend(arguments: list[str]) -> int:
    from raypref.commands.recommend import recommend

    return recommend(arguments)


def _rescore(arguments: list[str]) -> int:
    from raypref.commands.rescore import rescore

    return rescore(arguments)


def _collect(arguments: list[str]) -> int:
    from raypref.results.conclusion import conclude

    def collect(folder: tyro.conf.Positional[Path], root: Path | None = None) -> int:
        """Gather a sweep's results again.

        Args:
            folder: The sweep's folder, <root>/sweeps/NAME.
            root: The root of all results; default: two levels above the folder.
        """
        if not (folder / "sweep.json").is_file():
            raise UserError("no sweep lies there", where=str(folder), mend="give a folder with a sweep.json")
        return 0 if conclude(folder, (root or folder.parent.parent).absolute(), Console()) else 3

    return int(tyro.cli(collect, args=arguments, prog="raypref collect"))


def _objectives(arguments: list[str]) -> int:
    from raypref.commands.objectives import objectives

    return objectives(arguments, Console())


def _data(arguments: list[str]) -> int:
    from raypref.commands.data import COMMANDS as data_commands

    tyro.extras.subcommand_cli_from_dict(data_commands, args=arguments, prog="raypref data")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "submit": _submit,
    "run": _run,
    "recommend": _recommend,
    "rescore": _rescore,
    "collect": _collect,
    "objectives": _objectives,
    "data": _data,
}

if __name__ == "__main__":
    main()
