"""`raypref ...`: the same functions that the jobs call."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import tyro
from rich.console import Console

from raypref.errors import UserError
from raypref.messages import INTERRUPTED, show_messages
from raypref.version import __version__

USAGE = """usage: raypref COMMAND [options]

  submit JOB [options]   run a job (or several) on Ray: the cluster of RAY_ADDRESS, or this machine
  run [options]          one run: prepare, fine-tune, align, evaluate
  adapt [options]        a small model learns a data set's titles and histories, for --model.path
  recommend [options]    what a run's model recommends to a user
  rescore [options]      an outside system's scores join a benchmark's table
  collect FOLDER ...     gather the results of one sweep or several again: tables, curves, answer
  plot FOLDER            draw a sweep's figures again from its collected tables alone
  dashboard              what Ray's dashboard shows of a sweep, and how to set up Prometheus and Grafana
  objectives [NAME]      the objectives, or one in full
  claims [options]       what papers claim of two methods, and the studies that ask it here
  verify [PAGE]          are a page's numbers those of the rows beside it? or draw it anew from them
  export RUN --to DIR    a run's model as a Hugging Face folder, with a card
  model COMMAND          list and fetch language models that need no hub
  data COMMAND           list, download, show, audit and export data sets
  compare A B            two trials or runs: configs, paired differences, wins, what each says
  watch [FOLDER]         a sweep's report at 127.0.0.1 while it runs
  store COMMAND          list, show and prune what lies under the root
  schema                 the config's JSON schema, for editors
  watch-spot             tell Ray when this machine is about to be taken away

`raypref COMMAND --help` tells more, `raypref --version` which version this is; `raypref --install-completion` lets
bash, zsh or fish complete commands and options.
"""


def main() -> None:
    """Entry point: exits with 2 for a mistake that the user can mend."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    if arguments == ["--version"]:
        print(f"raypref {__version__}")
        return
    if arguments[0] == "--install-completion":
        arguments[0] = "install-completion"
    show_messages()
    command, rest = arguments[0], arguments[1:]
    try:
        if command not in COMMANDS:
            from raypref.config.base import lookup

            lookup(command, COMMANDS, "command")
        sys.exit(COMMANDS[command](rest))
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing it at exit fails once more
        sys.exit(128 + signal.SIGPIPE)


def _submit(arguments: list[str]) -> int:
    from raypref.commands.submit import Submit, submit

    first = next((i for i, a in enumerate(arguments) if a.endswith(".py")), len(arguments))
    rest = next((i for i, a in enumerate(arguments) if i >= first and not a.endswith(".py")), len(arguments))
    return submit(tyro.cli(Submit, args=arguments[:rest], prog="raypref submit"), arguments[rest:])


def _run(arguments: list[str]) -> int:
    from raypref.commands.run import run

    return run(arguments)


def _adapt(arguments: list[str]) -> int:
    from raypref.commands.adapt import adapt

    return adapt(arguments)


def _recommend(arguments: list[str]) -> int:
    from raypref.commands.recommend import recommend

    return recommend(arguments)


def _rescore(arguments: list[str]) -> int:
    from raypref.commands.rescore import rescore

    return rescore(arguments)


def _collect(arguments: list[str]) -> int:
    from raypref.commands.collect import collect

    return int(tyro.cli(collect, args=arguments, prog="raypref collect"))


def _plot(arguments: list[str]) -> int:
    from raypref.commands.collect import plot

    return int(tyro.cli(plot, args=arguments, prog="raypref plot"))


def _dashboard(arguments: list[str]) -> int:
    from raypref.commands.dashboard import dashboard

    return int(tyro.cli(dashboard, args=arguments, prog="raypref dashboard"))


def _claims(arguments: list[str]) -> int:
    from raypref.commands.claims import Claims, list_claims

    return list_claims(tyro.cli(Claims, args=arguments, prog="raypref claims"), Console())


def _verify(arguments: list[str]) -> int:
    from raypref.commands.verify import verify

    return int(tyro.cli(verify, args=arguments, prog="raypref verify"))


def _export(arguments: list[str]) -> int:
    from raypref.commands.export import Export, export

    export(tyro.cli(Export, args=arguments, prog="raypref export"), Console())
    return 0


def _watch_spot(arguments: list[str]) -> int:
    from raypref.commands.spot import WatchSpot, watch_spot

    return watch_spot(tyro.cli(WatchSpot, args=arguments, prog="raypref watch-spot"))


def _objectives(arguments: list[str]) -> int:
    from raypref.commands.objectives import objectives

    return objectives(arguments, Console())


def _install_completion(arguments: list[str]) -> int:
    from raypref.commands.completion import install_completion

    return install_completion(arguments, [name for name in COMMANDS if name != "install-completion"])


def _model(arguments: list[str]) -> int:
    from raypref.commands.model import COMMANDS as model_commands

    tyro.extras.subcommand_cli_from_dict(model_commands, args=arguments, prog="raypref model")
    return 0


def _compare(arguments: list[str]) -> int:
    from raypref.commands.compare import compare

    return int(tyro.cli(compare, args=arguments, prog="raypref compare"))


def _watch(arguments: list[str]) -> int:
    from raypref.commands.watch import watch

    return int(tyro.cli(watch, args=arguments, prog="raypref watch"))


def _store(arguments: list[str]) -> int:
    from raypref.commands.store import COMMANDS as store_commands

    tyro.extras.subcommand_cli_from_dict(store_commands, args=arguments, prog="raypref store")
    return 0


def _schema(arguments: list[str]) -> int:
    from raypref.commands.schema import schema

    return int(tyro.cli(schema, args=arguments, prog="raypref schema"))


def _data(arguments: list[str]) -> int:
    from raypref.commands.data import COMMANDS as data_commands
    from raypref.commands.data import short_options

    tyro.extras.subcommand_cli_from_dict(data_commands, args=short_options(arguments), prog="raypref data")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "submit": _submit,
    "run": _run,
    "adapt": _adapt,
    "recommend": _recommend,
    "rescore": _rescore,
    "collect": _collect,
    "plot": _plot,
    "dashboard": _dashboard,
    "export": _export,
    "objectives": _objectives,
    "claims": _claims,
    "verify": _verify,
    "model": _model,
    "data": _data,
    "compare": _compare,
    "watch": _watch,
    "store": _store,
    "schema": _schema,
    "watch-spot": _watch_spot,
    "install-completion": _install_completion,
}

if __name__ == "__main__":
    main()
