"""Teaches a small model a catalog before it is fine-tuned: titles, what follows what, to answer with a candidate.

The papers fine-tune models of billions of parameters, which know the movies and follow instructions. A small one knows
neither, and a prompt with one answer teaches it little of what users want. So it reads the training data in another
form first: whole histories, where every title is learned from, and prompts whose candidates are the target among random
items, which are easier than those of fine-tuning. Nothing is read that training examples are not cut from.

The tokenizer is fitted on the catalog, and may join words: a title is few tokens, and so a prompt is short.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from raypref.config import RunConfig
from raypref.config.base import Frozen
from raypref.config.data import CandidateConfig, CutConfig
from raypref.config.model import ScratchModel
from raypref.data.examples import Examples, examples_of
from raypref.data.prompts import RATING, PromptRenderer
from raypref.data.schema import Log, PublishedLog
from raypref.data.sources import SOURCES
from raypref.models import backbone
from raypref.models.folders import local_folder
from raypref.models.lessons import Lesson, Question, asked, check, copies, loss_of, padded

UNRATED = 0.3  # share of histories that are read without their ratings
COPIES_LATER = 0.03  # share of later batches that are copies
TITLES_TO_FIT = 5  # how often the tokenizer sees each title, beside those in prompts
PROMPTS_TO_FIT = 4096
VALIDATION = 256  # validation examples that are looked at as it goes


class Adaptation(Frozen):
    """How a model is adapted to a data set."""

    vocabulary: int = Field(default=8192, ge=300)
    """Size of the tokenizer's vocabulary, at most."""
    copy_steps: int = Field(default=300, ge=0)
    """First steps, on random sequences written twice: what copying heads are made of."""
    steps: int = Field(default=2000, ge=1)
    """Steps on histories and prompts."""
    batch: int = Field(default=32, ge=1)
    """Prompts of a step."""
    histories: float = Field(default=0.45, ge=0, le=1)
    """Share of the steps that read histories, half as many as prompts."""
    longest: int = Field(default=60, ge=2)
    """Items of a history that are read at once, at most."""
    easy: float = Field(default=1.0, ge=0, le=1)
    """Share of the prompts whose candidates are the target among random items; the others have those of fine-tuning."""
    curriculum: float = Field(default=0.15, gt=0, le=1)
    """Share of the steps over which the number of candidates grows from 2 to all."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW; cosine decay."""
    seed: int = 0
    """Seed of the order, of the draws and of new weights."""


def easy(config: CutConfig) -> CutConfig:
    """The same training data, their candidates the target and as many random items as an evaluation has."""
    candidates = CandidateConfig(train_future=1, train_random=config.candidates.eval_random, eval_random=1)
    return config.model_copy(update={"candidates": candidates})


class Material:
    """What a data set has to teach: its questions and histories, as text."""

    def __init__(self, config: RunConfig) -> None:
        log: Log = SOURCES[config.data.source.kind](config.data.source)
        self.titles = np.array(log.items["title"].to_pylist(), dtype=object)
        liked = config.data.target == "recpo" and not isinstance(log, PublishedLog)
        self.render = PromptRenderer(config.prompt, log.domain, liked)
        self.easy: Examples = examples_of(log, easy(config.data))
        self.examples: Examples = examples_of(log, config.data)
        user, self.item = self.examples.training_interactions()
        self.rating = self.examples.training_ratings()
        starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        self.ranges = np.stack([starts, np.r_[starts[1:], len(user)]], axis=1)

    def rows(self, split: str = "train", easy: bool = False) -> Iterator[dict[str, Any]]:
        """The examples of a split; easy: the target is among random items."""
        examples = self.easy if easy else self.examples
        return itertools.chain.from_iterable(table.to_pylist() for table in examples.shards(split))

    def endless(self, easy: bool) -> Iterator[dict[str, Any]]:
        """Training examples, again and again in the same order."""
        return itertools.chain.from_iterable(self.rows(easy=easy) for _ in itertools.count())

    def question(self, row: dict[str, Any], candidates: int | None = None, shuffle: Any = None) -> Question:
        """An example as text; with only so many of its candidates, the target among them, in a new order."""
        shown, target = row["candidates"], row["candidates"][row["target"]]
        if candidates is not None:
            others = [item for item in shuffle.permutation(shown) if item != target]
            shown = shuffle.permutation([target, *others[: candidates - 1]])
        titles = [str(title) for title in self.titles[shown]]
        prompt = self.render(row["example"], self.titles[row["history"]], row["history_rating"], titles)
        return Question(prompt, str(self.titles[target]), titles)

    def history(self, longest: int, rng: np.random.Generator) -> str:
        """A piece of a user's history as the beginning of a prompt."""
        start, end = self.ranges[rng.integers(len(self.ranges))]
        length = min(longest, end - start)
        first = int(rng.integers(start, end - length + 1))
        own = slice(first, first + length)
        rating = [math.nan] * length if rng.random() < UNRATED else self.rating[own].tolist()
        return "\n".join(self.render.history(int(rng.integers(3)), self.titles[self.item[own]], rating))


def fitted_tokenizer(material: Material, vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer of the data set's titles and prompts, in which a title may be one token."""
    prompts = (material.question(row).prompt for row in itertools.islice(material.rows(), PROMPTS_TO_FIT))
    titles = (f"{title}\n" for title in material.titles for _ in range(TITLES_TO_FIT))
    return backbone.train_tokenizer(itertools.chain(titles, prompts), vocabulary, apart=("\n", RATING), join=True)


def start(config: RunConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> Any:
    """The run's model, all weights to be trained, with embeddings for this tokenizer.

    A token that the model knows keeps its embedding, any other gets a random one of the same spread: means of its
    pieces would be too alike to be told apart.
    """
    bare = config.model.model_copy(update={"lora": None})
    if isinstance(bare, ScratchModel):
        return backbone.build(bare.model_copy(update={"seed": seed}), tokenizer)
    known = backbone.load_tokenizer(local_folder(bare) or bare.path, bare.revision)
    model: Any = backbone.build(bare, known)
    torch.manual_seed(seed)
    pieces = {token: piece for token in range(len(tokenizer)) if (piece := _piece(token, tokenizer, known)) is not None}
    before = [table.weight.detach().clone() for table in _tables(model)]
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for old, table in zip(before, _tables(model)):
            table.weight.copy_(old.mean(0) + old.std(0) * torch.randn(len(tokenizer), old.shape[1]))
            table.weight[list(pieces)] = old[list(pieces.values())]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))
    return model


def _tables(model: Any) -> list[Any]:
    """The embeddings, and the head where it is another table."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    return [embeddings] if head.weight is embeddings.weight else [embeddings, head]


def _piece(token: int, tokenizer: PreTrainedTokenizerBase, known: PreTrainedTokenizerBase) -> int | None:
    """The one token of `known` that says the same, if there is one."""
    specials = ("bos_token_id", "eos_token_id", "pad_token_id")
    for name in specials:
        if token == getattr(tokenizer, name):
            found: int | None = getattr(known, name)
            return found
    text = tokenizer.decode([token])
    ids = [] if "\ufffd" in text else known(text, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 else None


def adapt(
    config: RunConfig, how: Adaptation, say: Callable[[str], None], log_every: int = 100
) -> tuple[Any, PreTrainedTokenizerBase, list[dict[str, float]]]:
    """The model, its tokenizer, and how it went; `say` is told too, as it goes."""
    rng = np.random.default_rng(how.seed)
    material = Material(config)
    tokenizer = fitted_tokenizer(material, how.vocabulary)
    model = start(config, tokenizer, how.seed)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=how.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    rows = {easy: material.endless(easy) for easy in (True, False)}
    validation = [material.question(row) for row in itertools.islice(material.rows("validation"), VALIDATION)]
    most = config.data.candidates.eval_random + 1
    lengths = [len(ids) for ids in tokenizer([str(title) for title in material.titles])["input_ids"]]
    say(f"{len(tokenizer):,} tokens, {np.mean(lengths):.2f} a title; {model.num_parameters():,} parameters")
    started, log, total, losses = time.perf_counter(), [], how.copy_steps + how.steps, []
    for step in range(total):
        learned = (step - how.copy_steps) / (how.curriculum * how.steps)
        size = int(np.clip(2 + (most - 2) * learned, 2, most))
        lesson = _lesson(material, how, step, size, rows, tokenizer, rng)
        for group in optimizer.param_groups:
            decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / total))
            group["lr"] = how.learning_rate * min(1.0, (step + 1) / 100) * decay
        loss = loss_of(model, lesson)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % log_every == 0 or step + 1 == total:
            row = {"step": step + 1, "candidates": size, "loss": round(float(np.mean(losses)), 4)}
            losses.clear()
            if step >= how.copy_steps:
                row |= {name: round(value, 4) for name, value in check(model, tokenizer, validation).items()}
            log.append(row | {"seconds": round(time.perf_counter() - started)})
            say(json.dumps(log[-1]))
    return model, tokenizer, log


def _lesson(
    material: Material,
    how: Adaptation,
    step: int,
    candidates: int,
    rows: Mapping[bool, Iterator[dict[str, Any]]],
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator,
) -> Lesson:
    if step < how.copy_steps:
        return copies(rng, min(40, 8 + step // 4), len(tokenizer))
    kind = rng.random()
    if kind < COPIES_LATER:
        return copies(rng, 40, len(tokenizer))
    if kind < COPIES_LATER + how.histories:
        texts = [material.history(how.longest, rng) for _ in range(max(1, how.batch // 2))]
        read: Sequence[Sequence[int]] = tokenizer(texts)["input_ids"]
        return padded(read, [[1.0] * len(ids) for ids in read], tokenizer.pad_token_id)
    feed = rows[bool(rng.random() < how.easy)]
    batch = [material.question(row, candidates, rng) for row in itertools.islice(feed, how.batch)]
    return asked(batch, tokenizer, prompt_weight=0.0)
