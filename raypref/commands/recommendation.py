"""A question to a run's model, for `raypref recommend`: a history and candidates, and what its method says."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from raypref.config.systems import SYSTEMS
from raypref.data.columns import ExampleTable, splits_in
from raypref.errors import UserError
from raypref.evaluation.catalog_titles import CatalogTitles
from raypref.evaluation.decoding import greedy_answers, match_strict
from raypref.evaluation.yes_no import log_odds
from raypref.models.layout import all_candidates
from raypref.models.scoring import TitleScorer
from raypref.recommenders import load_recommender
from raypref.stages.policy import load_policy
from raypref.stages.prepare import catalog_of
from raypref.stages.stage import Chain
from raypref.stages.tokenize import asker_of, example_tokenizer, without_list
from raypref.storage.store import Store

SPLITS = ("test", "validation")


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked: a history and candidates, as item codes."""

    history: list[int]
    ratings: list[float]
    candidates: list[int]
    target: int | None = None
    """The item that came next, where it is known."""
    example: int = 0
    listed: bool = True
    """Whether a prompt lists the candidates; not where they are the catalog."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a method says to a question."""

    shares: np.ndarray
    """(C,) of each candidate: the softmax over the candidates of log-probs, or of a recommender's scores. Of the whole
    catalog a language model gives the probability of its likeliest titles, and 0 for those that it need not score."""
    said: str | None = None
    """The line that a language model generates, greedily, as HR@1 and ValidRatio count it."""
    constrained: str | None = None
    """The title that it generates where it can say nothing but titles of the catalog."""
    prompt: str | None = None
    """What a language model reads that answers with titles and reads nothing but text."""


def of_user(prepared: Path, user_id: str, whole: bool = False) -> Question:
    """The question that the test example of a user asks, or the validation one.

    Args:
        whole: of all items that the user has not met in training or in the history, instead of the example's list.

    Raises:
        UserError: no such user, or one without held-out examples.
    """
    users = pq.read_table(prepared / "users.parquet")
    known = users["user_id"].to_pylist()
    if user_id not in known:
        raise UserError(f"no user has the id '{user_id}'", where="--user", hint=_others(prepared, users, user_id))
    code = users["user"][known.index(user_id)].as_py()
    for split in splits_in(prepared, SPLITS):
        for shard in ExampleTable([prepared], split):
            found = shard.filter(pa.compute.equal(shard["user"], code))
            if found.num_rows:
                row = found.to_pylist()[-1]
                target = row["candidates"][row["target"]]
                asked = Question(row["history"], row["history_rating"], row["candidates"], target, row["example"])
                if not whole:
                    return asked
                catalog = catalog_of(prepared, unseen=True)
                left = catalog.items[~catalog.left_out(code, row["history"], target)]
                return dataclasses.replace(asked, candidates=left.tolist(), listed=False)
    raise UserError(
        f"user '{user_id}' has no held-out example: left out by --data.max-users or --data.k-core, or too few items",
        where="--user", hint=_others(prepared, users, user_id),
    )  # fmt: skip


def _others(prepared: Path, users: pa.Table, user_id: str) -> str:
    """Ids of users who have held-out examples, those most like a given one first."""
    asked = {code for split in splits_in(prepared, SPLITS) for t in ExampleTable([prepared], split)
             for code in t["user"].to_pylist()}  # fmt: skip
    known = [name for name, code in zip(users["user_id"].to_pylist(), users["user"].to_pylist()) if code in asked]
    return "e.g. " + ", ".join(difflib.get_close_matches(user_id, known, n=3) or known[:3])


def of_lines(
    lines: Sequence[str], titles: Sequence[str], count: int | None, seed: int, most: int, prepared: Path
) -> Question:
    """A typed history, `Title` or `Title | rating` a line, and `count` random items that it lacks; None: all of them.

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
            hint = f"did you mean: {close}?" if close else "take titles of the catalog: `raypref data show`"
            raise UserError(f"no item is called '{title}'", where=f"--history, line {number}", hint=hint)
        history.append(codes[title])
        ratings.append(_rating(rating.strip(), number))
    if count is None:
        left = np.setdiff1d(catalog_of(prepared, unseen=False).items, history)
        return Question(history[-most:], ratings[-most:], left.tolist(), listed=False)
    rest = np.setdiff1d(np.arange(len(titles)), history)
    if not 1 <= count <= len(rest):
        raise UserError(f"{count} candidates of {len(rest)} unseen items", where="--candidates", hint="take fewer")
    drawn = np.random.default_rng(seed).choice(rest, count, replace=False)
    return Question(history[-most:], ratings[-most:], drawn.tolist())


def _rating(text: str, line: int) -> float:
    try:
        value = float(text) if text else float("nan")
    except ValueError:
        value = 0.0
    if value == value and not 0.5 <= value <= 5:
        raise UserError(f"'{text}' is no rating", where=f"--history, line {line}", hint="write 1 to 5, or nothing")
    return value


@torch.no_grad()
def answer(run: Chain, store: Store, question: Question, top: int = 20) -> Answer:
    """What the run's method says; of the whole catalog a language model finds the `top` likeliest titles."""
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
    config = run.ready(store).config
    if "questions" in paths:
        model, tokenizer = load_policy(config, paths["questions"], paths["model"])
        asker = asker_of(config, prepared, tokenizer)
        return Answer(_shares(torch.from_numpy(log_odds(model, asker, table, config.evaluation.batch))[0]))
    model, tokenizer = load_policy(config, paths["tokenize"], paths.get("model"))
    tokenize = example_tokenizer(config if question.listed else without_list(config), prepared, tokenizer)
    tokens, scorer = tokenize(table), TitleScorer(model.eval())
    constrained = None
    if question.listed:
        batch = all_candidates(tokens, tokenizer.pad_token_id)
        shares = _shares(scorer(batch.to(model.device))[0])
    else:
        items = np.array(question.candidates)
        asker_of_all = CatalogTitles(items, tokenize, tokenizer.eos_token_id, tokenizer.pad_token_id)
        asked = asker_of_all.prompts(scorer, table)
        found = asker_of_all.top(scorer, asked, top)
        shares = np.zeros(len(items))
        shares[found.titles[0]] = np.exp(found.logps[0])
        constrained = str(tokenize.plain_titles[items[asker_of_all.said(scorer, asked, 1).title[0, 0]]])
    prompts, longest = tokens["prompt_ids"].to_pylist(), max(map(len, tokens["title_ids"].to_pylist()[0]))
    (said,) = greedy_answers(model, tokenizer, prompts, longest)
    if SYSTEMS[config.system].behaviour:  # behavioural tokens have no text
        return Answer(shares, said, constrained)
    framed = config.prompt.chat and bool(tokenizer.chat_template)  # its special tokens are a part of what is read
    return Answer(shares, said, constrained, str(tokenizer.decode(prompts[0], skip_special_tokens=not framed)))


def _shares(scores: torch.Tensor) -> np.ndarray:
    found: np.ndarray = torch.softmax(scores.float(), dim=0).cpu().numpy()
    return found


def print_ranking(
    console: Console, question: Question, titles: Sequence[str], found: Answer, top: int | None = None
) -> None:
    """Show the first `top` of the candidates, all of them if there is none, and what is generated."""
    shown: Callable[[int], str] = lambda item: titles[item].replace("[", "\\[")  # noqa: E731
    latest = ", ".join(shown(item) for item in question.history[-5:]) or "(no history)"
    console.print(f"after {latest}", highlight=False)
    table = Table()
    table.add_column("#", justify="right")
    table.add_column("recommended")
    table.add_column("probability", justify="right")
    for place, index in enumerate(np.argsort(-found.shares, kind="stable")[:top], start=1):
        item = question.candidates[index]
        mark = "  <- came next" if item == question.target else ""
        table.add_row(str(place), shown(item) + mark, f"{found.shares[index]:.3f}", style="bold" if mark else None)
    console.print(table)
    if found.said is not None:
        named = match_strict(found.said, [titles[item] for item in question.candidates]) >= 0
        note = "" if named else f"  (none of the {'candidates' if question.listed else 'titles'})"
        console.print(f"generated: {found.said}{note}", highlight=False, soft_wrap=True, markup=False)
    if found.constrained is not None:
        text = f"generated from the titles alone: {found.constrained}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
