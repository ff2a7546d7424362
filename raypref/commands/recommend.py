"""`raypref recommend`: what a run's model would recommend to a user, or to a history typed as lines."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from raypref.config.loading import override
from raypref.data.columns import ExampleTable, splits_in
from raypref.errors import UserError
from raypref.evaluation.decoding import greedy_answers, matched_strict
from raypref.evaluation.yes_no import log_odds
from raypref.models.scoring import TitleScorer
from raypref.recommenders import load_recommender
from raypref.stages import bodies
from raypref.stages.chain import Chain, chain, data_config
from raypref.store import Store
from raypref.sweeps.methods import method_changes
from raypref.sweeps.options import RunOptions, parse
from raypref.training.batches import all_candidates

SPLITS = ("test", "validation")
DESCRIPTION = """What a run's model recommends: its candidates in order, with their probabilities.

Give the options of the run itself (--preset, --objective, --data.* ...), so that its model is found; run it first.

Examples:
  raypref recommend --user u0000003                   # the default run's model, a user's own test list
  raypref recommend --by sft --user u0000003          # the model before alignment
  printf 'Lucky Forger | 5\\nHollow Ransom\\n' | raypref recommend --history - --candidates 5
"""


@dataclasses.dataclass
class RecommendOptions(RunOptions):
    """Options of recommend."""

    user: str | None = None
    """A user's id in the data set; the candidates are those of the user's test example, else validation."""
    history: str | None = None
    """Instead: a file of titles, a line each, oldest first, or - for standard input; `Title | 4` adds a rating."""
    candidates: int = 20
    """With --history: how many random items to choose from that the history lacks."""
    seed: int = 0
    """With --history: seed of the random items."""
    prompt_to: Path | None = None
    """Write the prompt that the model reads to this file, to give it to an exported model."""
    by: str | None = None
    """Another method on the same data: sft, zero-shot, tallrec, llara, an objective, or a baseline such as sasrec."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked: a history and candidates, as item codes."""

    history: list[int]
    ratings: list[float]
    candidates: list[int]
    target: int | None = None
    """The item that came next, where it is known."""
    example: int = 0


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a method says to a question."""

    shares: np.ndarray
    """(C,) of each candidate: the softmax over the candidates of log-probs, or of a recommender's scores."""
    said: str | None = None
    """The line that a language model generates, greedily, as HR@1 and ValidRatio count it."""
    prompt: str | None = None
    """What a language model reads that answers with titles and reads nothing but text."""


def recommend(arguments: list[str]) -> int:
    """Print a ranking; the exit code."""
    options, config, _ = parse(RecommendOptions, arguments, DESCRIPTION)
    if (options.user is None) == (options.history is None):
        raise UserError("whom to recommend to?", mend="give --user ID, or --history FILE (- for standard input)")
    if options.by is not None:
        config = override(config, method_changes(options.by, config), f"--by {options.by}")
    if config.system == "chatrec":
        raise UserError("a chat model gives no probabilities", where="--by, --system", mend="take another method")
    store, run = Store(options.root), chain(config)
    _check_done(run, store)
    prepared = store.path(run.evaluate.inputs["prepare"].address)  # of the other data set, where there is one
    titles = bodies.titles_of(prepared)
    if options.user is not None:
        question = of_user(prepared, options.user)
    else:
        lines = _typed() if options.history == "-" else _text(Path(str(options.history)))
        most = data_config(config, transfer=True).data.max_history
        question = of_lines(lines.splitlines(), titles, options.candidates, options.seed, most)
    found = answer(run, store, question)
    if options.prompt_to is not None:
        if found.prompt is None:
            mend = "take a model that answers with titles: sft, zero-shot, or an objective"
            raise UserError("this method reads no prompt of text alone", where="--prompt-to", mend=mend)
        options.prompt_to.write_text(found.prompt, encoding="utf-8")
    _print(Console(), question, titles, found)
    return 0


def of_user(prepared: Path, user_id: str) -> Question:
    """The question that the test example of a user asks, or the validation one.

    Raises:
        UserError: no such user, or one without held-out examples.
    """
    users = pq.read_table(prepared / "users.parquet")
    known = users["user_id"].to_pylist()
    if user_id not in known:
        close = difflib.get_close_matches(user_id, known, n=3) or known[:3]
        raise UserError(f"no user has the id '{user_id}'", where="--user", mend="e.g. " + ", ".join(close))
    code = users["user"][known.index(user_id)].as_py()
    for split in splits_in(prepared, SPLITS):
        for shard in ExampleTable([prepared], split):
            found = shard.filter(pa.compute.equal(shard["user"], code))
            if found.num_rows:
                row = found.to_pylist()[-1]
                target = row["candidates"][row["target"]]
                return Question(row["history"], row["history_rating"], row["candidates"], target, row["example"])
    raise UserError(f"user '{user_id}' has no held-out example", where="--user", mend="take another user")


def of_lines(lines: Sequence[str], titles: Sequence[str], count: int, seed: int, most: int) -> Question:
    """A typed history, `Title` or `Title | rating` a line, and `count` random items that it lacks.

    Of a longer one the latest `most` items are asked with, as many as the model has seen in training.

    Raises:
        UserError: a title that the catalog has not, with the nearest ones; a rating that is no number of 1 to 5.
    """
    codes = {title: code for code, title in enumerate(titles)}
    history, ratings = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        title, _, rating = line.rpartition("|") if "|" in line and line.strip() not in codes else (line, "", "")
        title = title.strip()
        if title not in codes:
            close = ", ".join(difflib.get_close_matches(title, titles, n=3, cutoff=0.4))
            mend = f"did you mean: {close}?" if close else "take titles of the catalog: `raypref data show`"
            raise UserError(f"no item is called '{title}'", where=f"--history, line {number}", mend=mend)
        history.append(codes[title])
        ratings.append(_rating(rating.strip(), number))
    rest = np.setdiff1d(np.arange(len(titles)), history)
    if not 1 <= count <= len(rest):
        raise UserError(f"{count} candidates of {len(rest)} unseen items", where="--candidates", mend="take fewer")
    drawn = np.random.default_rng(seed).choice(rest, count, replace=False)
    return Question(history[-most:], ratings[-most:], drawn.tolist())


def _rating(text: str, line: int) -> float:
    try:
        value = float(text) if text else float("nan")
    except ValueError:
        value = 0.0
    if value == value and not 0.5 <= value <= 5:
        raise UserError(f"'{text}' is no rating", where=f"--history, line {line}", mend="write 1 to 5, or nothing")
    return value


@torch.no_grad()
def answer(run: Chain, store: Store, question: Question) -> Answer:
    """What the run's method says."""
    paths = run.evaluate.input_paths(store)
    prepared = paths["prepare"]
    if "fit" in paths:
        recommender = load_recommender(paths["fit"] / "model")
        scores = recommender.score([np.array(question.history)], np.array([question.candidates]))[0]
        return Answer(_shares(scores))
    table = pa.table(
        {
            "example": pa.array([question.example], pa.int64()),
            "history": pa.array([question.history], pa.list_(pa.int32())),
            "history_rating": pa.array([question.ratings], pa.list_(pa.float32())),
            "candidates": pa.array([question.candidates], pa.list_(pa.int32())),
        }
    )
    config = run.config
    if "questions" in paths:
        model, tokenizer = bodies.load_policy(config, paths["questions"], paths["model"])
        asker = bodies.asker_of(config, prepared, tokenizer)
        return Answer(_shares(torch.from_numpy(log_odds(model, asker, table, config.evaluation.batch))[0]))
    model, tokenizer = bodies.load_policy(config, paths["tokenize"], paths.get("model"))
    tokens = bodies.example_tokenizer(config, prepared, tokenizer)(table)
    batch = all_candidates(tokens, tokenizer.pad_token_id)
    shares = _shares(TitleScorer(model.eval())(batch.to(model.device))[0])
    prompts, longest = tokens["prompt_ids"].to_pylist(), max(map(len, tokens["title_ids"].to_pylist()[0]))
    (said,) = greedy_answers(model, tokenizer, prompts, longest)
    if config.system == "llara":  # behavioural tokens have no text
        return Answer(shares, said)
    return Answer(shares, said, str(tokenizer.decode(prompts[0], skip_special_tokens=True)))


def _shares(scores: torch.Tensor) -> np.ndarray:
    found: np.ndarray = torch.softmax(scores.float(), dim=0).cpu().numpy()
    return found


def _check_done(run: Chain, store: Store) -> None:
    needed = [run.prepare, *run.evaluate.inputs.values()]
    missing = [stage for stage in needed if not store.done(stage.address)]
    if missing:
        raise UserError(
            f"this run has no model yet: {missing[0].address} is not there",
            where=str(store.root),
            mend="run it first (`raypref run` or a job, with the same options), or give its --root",
        )


def _print(console: Console, question: Question, titles: Sequence[str], found: Answer) -> None:
    shown: Callable[[int], str] = lambda item: titles[item].replace("[", "\\[")  # noqa: E731
    latest = ", ".join(shown(item) for item in question.history[-5:]) or "(no history)"
    console.print(f"after {latest}", highlight=False)
    table = Table()
    table.add_column("#", justify="right")
    table.add_column("recommended")
    table.add_column("probability", justify="right")
    for place, index in enumerate(np.argsort(-found.shares, kind="stable"), start=1):
        item = question.candidates[index]
        mark = "  <- came next" if item == question.target else ""
        table.add_row(str(place), shown(item) + mark, f"{found.shares[index]:.3f}", style="bold" if mark else None)
    console.print(table)
    if found.said is not None:
        named = matched_strict(found.said, [titles[item] for item in question.candidates]) >= 0
        note = "" if named else "  (none of the candidates)"
        console.print(f"generated: {found.said}{note}", highlight=False, soft_wrap=True, markup=False)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the history can't be read: {error.strerror}", where=str(path), mend="check it") from error
    except UnicodeDecodeError as error:
        raise _no_utf8(error, str(path)) from error


def _typed() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise _no_utf8(error, "standard input") from error


def _no_utf8(error: UnicodeDecodeError, where: str) -> UserError:
    return UserError(f"the history is no UTF-8 text (byte {error.start + 1})", where=where, mend="save it as UTF-8")
