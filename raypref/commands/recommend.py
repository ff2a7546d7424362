"""`raypref recommend`: what a run's model would recommend to a user, or to a history typed as lines."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import ClassVar, Literal

from rich.console import Console

from raypref.config.loading import override
from raypref.config.systems import SYSTEMS
from raypref.errors import UserError
from raypref.stages.chain import chain
from raypref.stages.prepare import data_config, titles_of
from raypref.stages.stage import Chain
from raypref.storage.store import Store
from raypref.sweeps.methods import method_changes
from raypref.sweeps.options import DEFAULT_ROOT, RunOptions, parse

DESCRIPTION = """What a run's model recommends of the whole catalog, with probabilities; or of a list of candidates.

Give the options of the run itself (--preset, --objective, --data.* ...), so that its model is found; run it first.

Examples:
  raypref recommend --user u0000003                   # the default run's model; what the user met is left out
  raypref recommend --user u0000003 --among candidates                               # a user's own test list
  raypref recommend --by sft --user u0000003          # the model before alignment
  printf 'Lucky Forger | 5\\nHollow Ransom\\n' | raypref recommend --history - --top 5
"""


@dataclasses.dataclass
class RecommendOptions(RunOptions):
    """Options of recommend."""

    program: ClassVar[str] = "raypref recommend"
    user: str | None = None
    """A user's id in the data set; what is asked is the user's test example, else validation."""
    history: str | None = None
    """Instead: a file of titles, a line each, oldest first, or - for standard input; `Title | 4` adds a rating."""
    among: Literal["catalog", "candidates"] = "catalog"
    """What to choose from. catalog: all items but those that the user has met, after a prompt without a list.
    candidates: the list of the user's example; with --history, random items that it lacks."""
    top: int = 20
    """How many of the catalog's items to show."""
    candidates: int | None = None
    """With --among candidates and --history: how many random items; 20 if it is left out."""
    seed: int = 0
    """With --history: seed of the random items."""
    prompt_to: Path | None = None
    """Write the prompt that the model reads to this file, to give it to an exported model."""
    by: str | None = None
    """Another method on the same data: sft, zero-shot, tallrec, llara, an objective, or a baseline such as sasrec."""


def recommend(arguments: list[str]) -> int:
    """Print a ranking; the exit code."""
    options, config, _ = parse(RecommendOptions, arguments, DESCRIPTION)
    if (options.user is None) == (options.history is None):
        raise UserError("whom to recommend to?", hint="give --user ID, or --history FILE (- for standard input)")
    if options.candidates is not None and options.among == "catalog":
        raise UserError(
            "the catalog is not a list of so many items", where="--candidates", hint="add --among candidates"
        )
    if options.top < 1:
        raise UserError(f"{options.top} items are none", where="--top", hint="give 1 or more")
    if options.by is not None:
        config = override(config, method_changes(options.by, config), f"--by {options.by}")
    if SYSTEMS[config.system].chat:
        raise UserError("a chat model gives no probabilities", where="--by, --system", hint="take another method")
    store, run = Store(options.root), chain(config)
    _check_done(run, store)
    from raypref.commands import recommendation  # torch and transformers: not before a model is there to ask

    prepared = store.path(run.evaluate.inputs["prepare"].address)  # of the other data set, where there is one
    titles = titles_of(prepared)
    whole = options.among == "catalog"
    if options.user is not None:
        question = recommendation.of_user(prepared, options.user, whole)
    else:
        lines = _typed() if options.history == "-" else _text(Path(str(options.history)))
        most = data_config(config, transfer=True).data.max_history
        count = None if whole else options.candidates or 20
        question = recommendation.of_lines(lines.splitlines(), titles, count, options.seed, most, prepared)
    found = recommendation.answer(run, store, question, options.top)
    if options.prompt_to is not None:
        if found.prompt is None:
            hint = "take a model that answers with titles: sft, zero-shot, or an objective"
            raise UserError("this method reads no prompt of text alone", where="--prompt-to", hint=hint)
        options.prompt_to.write_text(found.prompt, encoding="utf-8")
    recommendation.print_ranking(Console(), question, titles, found, options.top if whole else None)
    if whole and found.prompt is not None and config.prompt.candidates == "listed":
        print("(asked without a list of candidates; the model was trained with them: --prompt.candidates none)")
    return 0


def _check_done(run: Chain, store: Store) -> None:
    needed = [run.prepare, *run.evaluate.inputs.values()]
    missing = [stage for stage in needed if not store.done(stage.address)]
    if missing:
        raise UserError(
            f"this run has no model yet: {missing[0].address} is not there",
            where=str(store.root),
            hint="run it first (`raypref run` or a job, with the same options), or give its --root"
            + other_roots(store),
        )


def other_roots(store: Store) -> str:
    """Where else on this machine results lie, as far as is known."""
    usual = (Path("results"), Path(DEFAULT_ROOT).expanduser(), Path(os.environ.get("RAYPREF_ROOT", "results")))
    found = {str(root.absolute()) for root in usual if (root / "prepare").is_dir() and root.absolute() != store.root}
    return f"; results lie also at {', '.join(sorted(found))}" if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the history can't be read: {error.strerror}", where=str(path), hint="check it") from error
    except UnicodeDecodeError as error:
        raise _no_utf8(error, str(path)) from error


def _typed() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise _no_utf8(error, "standard input") from error


def _no_utf8(error: UnicodeDecodeError, where: str) -> UserError:
    return UserError(f"the history is no UTF-8 text (byte {error.start + 1})", where=where, hint="save it as UTF-8")
