"""Teaches a small model a catalog before it is fine-tuned: titles, what follows what, to answer with a candidate.

The papers fine-tune models of billions of parameters, which know the movies and follow instructions. A small one knows
neither, and a prompt with one answer teaches it little of what users want. So it reads the training data in another
form first: whole histories, where every title is learned from, and prompts whose candidates are the target among random
items, which are easier than those of fine-tuning. It learns from no interaction that training examples are not cut
from; of held-out examples it looks at some of the validation split's, to tell how it goes.

The tokenizer is fitted on the catalog, and may join words: a title is few tokens, and so a prompt is short. What it is
called says little then: titles that training never shows (the cold-item set's) stay strangers.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from raypref.config import RunConfig
from raypref.config.adaptation import Adaptation
from raypref.config.data import CutConfig
from raypref.config.model import ScratchModel
from raypref.data.encoding import encode_prompts, encode_titles
from raypref.data.examples import asks_for_liked, examples_of
from raypref.data.filtering import user_ranges
from raypref.data.prompts import RATING, PromptRenderer
from raypref.data.reading import read_log
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.folders import local_folder
from raypref.models.precision import autocast
from raypref.models.schedule import half_cosine
from raypref.models.scoring import check_scorable, compile_each
from raypref.pretraining.lessons import Lesson, Question, adamw, asked, check, copies, descend, loss_of, padded

logger = logging.getLogger(__name__)

UNRATED = 0.3  # share of histories that are read without their ratings
COPIES_LATER = 0.03  # share of later steps that are copies
LONGEST_COPY = 40
TITLES_TO_FIT = 5  # how often the tokenizer sees each title, beside those in prompts
PROMPTS_TO_FIT = 4096


def among_random(config: CutConfig) -> CutConfig:
    """The same training data, their candidates the target among as many random items as an evaluation has."""
    changes = {"train_future": 1, "train_random": config.candidates.eval_random}
    return config.model_copy(update={"candidates": config.candidates.model_copy(update=changes)})


class Material:
    """What a data set has to teach: its questions and histories, as text.

    Attributes:
        titles: of item 0, 1, ...
        examples: the run's own. easy: the same with candidates of `among_random`, where they are not published.
    """

    def __init__(self, config: RunConfig) -> None:
        log = read_log(config.data)
        self.titles = np.array(log.items["title"].to_pylist(), dtype=object)
        self.render = PromptRenderer(config.prompt, log.domain, asks_for_liked(log, config.data))
        self.examples = examples_of(log, config.data)
        self.easy = examples_of(log, among_random(config.data))
        user, self.item = self.examples.training_interactions()
        self.rating = self.examples.training_ratings()
        self.starts, self.lengths = user_ranges(user)

    def rows(self, split: str = "train", easy: bool = False) -> Iterator[dict[str, Any]]:
        """The examples of a split."""
        examples = self.easy if easy else self.examples
        return itertools.chain.from_iterable(table.to_pylist() for table in examples.shards(split))

    def endless(self, easy: bool) -> Iterator[dict[str, Any]]:
        """Training examples, again and again in the same order."""
        return itertools.chain.from_iterable(self.rows(easy=easy) for _ in itertools.count())

    def question(self, row: dict[str, Any]) -> Question:
        """An example as text."""
        return self._question(row, row["candidates"])

    def fewer(self, row: dict[str, Any], candidates: int, rng: np.random.Generator) -> Question:
        """An example with only so many of its candidates, the target among them, in a new order."""
        target = row["candidates"][row["target"]]
        others = [item for item in rng.permutation(row["candidates"]) if item != target]
        return self._question(row, rng.permutation([target, *others[: candidates - 1]]))

    def _question(self, row: dict[str, Any], candidates: Any) -> Question:
        titles = [str(title) for title in self.titles[candidates]]
        prompt = self.render(row["example"], self.titles[row["history"]], row["history_rating"], titles)
        return Question(prompt, str(self.titles[row["candidates"][row["target"]]]), titles)

    def history(self, longest: int, rng: np.random.Generator) -> str:
        """A piece of a user's history as the beginning of a prompt."""
        user = rng.integers(len(self.starts))
        length = min(longest, int(self.lengths[user]))
        first = self.starts[user] + int(rng.integers(self.lengths[user] - length + 1))
        own = slice(first, first + length)
        rating = [math.nan] * length if rng.random() < UNRATED else self.rating[own].tolist()
        template = int(rng.integers(len(self.render.templates)))
        return "\n".join(self.render.history(template, self.titles[self.item[own]], rating))


def fitted_tokenizer(material: Material, vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer of the data set's titles and prompts, in which a title may be one token."""
    prompts = (material.question(row).prompt for row in itertools.islice(material.rows(easy=True), PROMPTS_TO_FIT))
    titles = (f"{title}\n" for title in material.titles for _ in range(TITLES_TO_FIT))
    return backbone.train_tokenizer(itertools.chain(titles, prompts), vocabulary, apart=("\n", RATING), join=True)


def start(config: RunConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> Any:
    """The run's model, all weights to be trained, with embeddings for this tokenizer."""
    bare = config.backbone.model_copy(update={"lora": None})
    if isinstance(bare, ScratchModel):
        return backbone.build(bare.model_copy(update={"seed": seed}), tokenizer)
    known = backbone.load_tokenizer(local_folder(bare) or bare.path, bare.revision)
    model: Any = backbone.build(bare, known)
    check_scorable(model)
    reembed(model, known, tokenizer, seed)
    return model


def reembed(model: Any, known: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Give a model of the tokenizer `known` embeddings for `tokenizer`.

    A token that the model knows keeps its embedding, any other gets a random one of the same spread. (With means of its
    pieces instead, which are much alike, copying took longer to learn.)
    """
    torch.manual_seed(seed)
    pieces = {token: piece for token in range(len(tokenizer)) if (piece := _piece(token, tokenizer, known)) is not None}
    before = [table.weight.detach().clone() for table in _tables(model)]
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for old, table in zip(before, _tables(model)):
            table.weight.copy_(old.mean(0) + old.std(0) * torch.randn(len(tokenizer), old.shape[1]))
            table.weight[list(pieces)] = old[list(pieces.values())]
    for name in backbone.SPECIAL_TOKEN_IDS:
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))


def start_own(config: RunConfig, how: Adaptation) -> tuple[Any, PreTrainedTokenizerBase]:
    """The run's model with its own tokenizer, and with a fresh adapter if it learns by one."""
    bare: Any = config.backbone.model_copy(update={"lora": how.lora, "seed": how.seed})
    if isinstance(bare, ScratchModel):
        raise UserError(
            "a model from scratch has no tokenizer of its own", where="model.adapt.tokenizer",
            hint="take tokenizer fitted, or --model.base.path of a language model",
        )  # fmt: skip
    tokenizer = backbone.load_tokenizer(local_folder(bare) or bare.path, bare.revision)
    model: Any = backbone.build(bare, tokenizer)
    check_scorable(_inner(model))
    return model, tokenizer


def _inner(model: Any) -> Any:
    """The causal language model, inside peft's wrapper if there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def titled(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Lesson:
    """Histories (`Material.history`) of which every title's tokens count, given all that comes before them.

    A title is tokenized apart, as it is where it is scored.
    """
    pieces: list[tuple[int, str, float]] = []
    for number, text in enumerate(texts):
        head, *lines = text.split("\n")
        pieces.append((number, f"{head}\n", 0.0))
        for line in lines:
            title, rated, rating = line.rpartition(RATING) if RATING in line else (line, "", "")
            pieces += [(number, title, 1.0), (number, f"{rated}{rating}\n", 0.0)]
    rows: list[list[int]] = [[] for _ in texts]
    weights: list[list[float]] = [[] for _ in texts]
    for (number, _, weight), ids in zip(pieces, encode_titles(tokenizer, [text for _, text, _ in pieces])):
        rows[number] += ids
        weights[number] += [weight] * len(ids)
    begin = tokenizer.bos_token_id if encode_prompts(tokenizer, ["a"])[0][0] == tokenizer.bos_token_id else None
    if begin is not None:
        rows, weights = [[begin, *row] for row in rows], [[0.0, *row] for row in weights]
    return padded(rows, weights, tokenizer.pad_token_id)


def _tables(model: Any) -> list[Any]:
    """The embeddings, and the head where it is another table."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    return [embeddings] if head.weight is embeddings.weight else [embeddings, head]


def _piece(token: int, tokenizer: PreTrainedTokenizerBase, known: PreTrainedTokenizerBase) -> int | None:
    """The one token of `known` that says the same, if there is one."""
    for name in backbone.SPECIAL_TOKEN_IDS:
        if token == getattr(tokenizer, name):
            found: int | None = getattr(known, name)
            return found
    text = tokenizer.decode([token])
    ids = [] if "\ufffd" in text else known(text, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 else None


def adapt(
    config: RunConfig, how: Adaptation, log_every: int = 100
) -> tuple[Any, PreTrainedTokenizerBase, list[dict[str, float]]]:
    """The model, its tokenizer, and how it went; that is logged too, as it goes. On a GPU where there is one."""
    rng = np.random.default_rng(how.seed)
    material = Material(config)
    if how.tokenizer == "own":
        model, tokenizer = start_own(config, how)
    else:
        tokenizer = fitted_tokenizer(material, how.vocabulary)
        model = start(config, tokenizer, how.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    precision = autocast(config.resources, device)
    if config.resources.compile:
        compile_each(_inner(model).get_decoder().layers)
    optimizer = adamw(p for p in model.parameters() if p.requires_grad)
    validation = [material.question(row) for row in itertools.islice(material.rows("validation"), how.validation)]
    lengths = [len(ids) for ids in encode_titles(tokenizer, [str(title) for title in material.titles])]
    logger.info(f"{len(tokenizer):,} tokens, {np.mean(lengths):.2f} a title; {model.num_parameters():,} parameters")
    log: list[dict[str, float]] = []
    started, total, losses = time.perf_counter(), how.copy_steps + how.steps, []
    for step, lesson in enumerate(lessons(material, how, config.data.candidates.eval_random + 1, tokenizer, rng)):
        rate = how.learning_rate * min(1.0, (step + 1) / how.warmup) * (0.05 + 0.95 * half_cosine(step / total))
        with precision:
            loss = loss_of(_inner(model), lesson.to(device))
        losses.append(descend(model, optimizer, loss, rate))
        if (step + 1) % log_every == 0 or step + 1 == total:
            row = {"step": step + 1, "loss": round(float(np.mean(losses)), 4)}
            losses.clear()
            if step >= how.copy_steps and validation:
                with precision, torch.compiler.set_stance("force_eager"):  # answers are of too many lengths to compile
                    answers = check(model, tokenizer, validation)
                row |= {name: round(value, 4) for name, value in answers.items()}
            log.append(row | {"seconds": round(time.perf_counter() - started)})
            logger.info(json.dumps(log[-1]))
    if how.lora is not None:
        backbone.untie_adapted(model)
        model = model.merge_and_unload()
    return model, tokenizer, log


def lessons(
    material: Material, how: Adaptation, most: int, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator
) -> Iterator[Lesson]:
    """The batch of each step; prompts have up to `most` candidates."""
    for step in range(how.copy_steps):
        yield copies(rng, min(LONGEST_COPY, 8 + step // 4), len(tokenizer))
    rows = {easy: material.endless(easy) for easy in (True, False)}
    for step in range(how.steps):
        kind = rng.random()
        if kind < COPIES_LATER and how.copy_steps:
            yield copies(rng, LONGEST_COPY, len(tokenizer))
        elif kind < COPIES_LATER + how.histories:
            texts = [material.history(how.longest, rng) for _ in range(max(1, how.batch // 2))]
            if how.counted == "titles":
                yield titled(texts, tokenizer)
                continue
            read = encode_prompts(tokenizer, texts)
            yield padded(read, [[1.0] * len(ids) for ids in read], tokenizer.pad_token_id)
        else:
            candidates = int(np.clip(2 + (most - 2) * step / (how.curriculum * how.steps), 2, most))
            feed = rows[how.easy == 1 or bool(rng.random() < how.easy)]
            batch = [material.fewer(row, candidates, rng) for row in itertools.islice(feed, how.batch)]
            yield asked(batch, tokenizer)
