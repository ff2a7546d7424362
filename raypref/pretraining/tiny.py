"""Trains `raypref-tiny`, the base model that the package ships: a small Llama that answers with one of the candidates.

The papers fine-tune language models that already follow instructions; a model of this size learns that from scratch
only after thousands of steps. So it is learned once, on generated catalogs that are never seen again: to answer with
a candidate, copied exactly. Which candidate is left mostly to chance (`KNOWN_TARGETS`), since what a user wants is for
fine-tuning to learn.

    python -m raypref.pretraining.tiny --out raypref/base
What it is taught, and in what order, is said in `lessons.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from transformers import PreTrainedTokenizerBase

from raypref.config.data import CandidateConfig, DataConfig, GeneratedSource, PromptConfig
from raypref.config.model import ScratchModel
from raypref.data.examples import ExampleBuilder
from raypref.data.prompts import DOMAINS, PromptRenderer
from raypref.data.sources.generated import generate
from raypref.data.sources.lexicon import GENRES, MOODS
from raypref.messages import show_messages
from raypref.models import backbone
from raypref.pretraining.lessons import Question, asked, check, copies, loss_of

logger = logging.getLogger(__name__)

KNOWN_TARGETS = 0.3  # share of examples whose answer is the user's own next item; the rest is a random candidate
COPY_STEPS = 1800  # first steps, on random sequences written twice, ever longer: what copying heads are made of
COPIES_LATER = 0.05  # share of later batches that are such copies
PROMPT_WEIGHT = 0.2  # weight of a prompt token's loss against a title token's
MODEL = ScratchModel(hidden_size=128, layers=4, heads=4, key_value_heads=2, intermediate_size=384, vocabulary=1536)


@dataclasses.dataclass
class Pretraining:
    """How the base model is trained."""

    out: Path = Path("raypref/base")
    """Folder for the weights, the tokenizer and training.json."""
    steps: int = 8000
    """Length of the learning rate's schedule."""
    stop: int = 5000
    """Stop here; the schedule is not run to its end."""
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 0
    curriculum: float = 0.4
    """Share of the steps on prompts over which the number of candidates grows from 2 to 20."""
    threads: int = 2
    log_every: int = 100


def questions(rng: np.random.Generator, candidates: int, known: float) -> Iterator[Question]:
    """Prompts over one fresh catalog, in all templates, domains and tiers, with `candidates` candidates each."""
    source = GeneratedSource(users=64, items=int(rng.integers(150, 500)), seed=int(rng.integers(1 << 31)))
    log = generate(source)
    half = candidates // 2
    config = DataConfig(
        source=source,
        k_core=1,
        candidates=CandidateConfig(train_future=max(half, 1), train_random=candidates - max(half, 1), eval_random=1),
        max_history=int(rng.integers(3, 13)),
        max_train_examples_per_user=6,
        seed=int(rng.integers(1 << 31)),
    )
    titles = np.array(log.items["title"].to_pylist(), dtype=object)
    prompt = PromptConfig(ratings=bool(rng.random() < 0.75), items="full" if rng.random() < 0.8 else "filtered")
    domain = "movie" if rng.random() < 0.6 else str(rng.choice(list(DOMAINS)))
    render = PromptRenderer(prompt, domain, liked_targets=bool(rng.random() < 0.75))
    for table in ExampleBuilder(log, config).shards("train"):
        for row in table.to_pylist():
            shown = [str(t) for t in titles[row["candidates"]]]
            place = row["target"] if rng.random() < known else int(rng.integers(len(shown)))
            text = render(int(rng.integers(3)), titles[row["history"]], row["history_rating"], shown)
            yield Question(text, shown[place], shown)


def stream(rng: np.random.Generator, candidates: int, known: float = KNOWN_TARGETS) -> Iterator[Question]:
    """Endless questions, a few hundred from each catalog."""
    while True:
        yield from questions(rng, candidates, known)


def tokenizer_for_generated(rng: np.random.Generator) -> PreTrainedTokenizerBase:
    """A tokenizer in which each word of the lexicon and of the templates is one token."""
    texts = [q.prompt for _ in range(60) for q in itertools.islice(questions(rng, 20, 1.0), 100)]
    nouns = [noun for words in GENRES.values() for noun in words]
    adjectives = [adjective for words in MOODS.values() for adjective in words]
    texts += [f"{a} {n}\n" for a in adjectives for n in nouns]
    return backbone.train_tokenizer(texts, MODEL.vocabulary)


def train(config: Pretraining) -> None:
    """Train, save the model as float32 safetensors with its tokenizer, and an account of how."""
    torch.set_num_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    tokenizer = tokenizer_for_generated(rng)
    model = backbone.build(MODEL.model_copy(update={"seed": config.seed}), tokenizer)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    started, log, feed, size = time.perf_counter(), [], stream(rng, 2), 2
    for step in range(config.stop):
        grown = (step - COPY_STEPS) / max(config.curriculum * (config.steps - COPY_STEPS), 1)
        wanted = int(np.clip(2 + int(18 * grown), 2, 20))
        if wanted != size:
            feed, size = stream(rng, wanted), wanted
        if step < COPY_STEPS or rng.random() < COPIES_LATER:
            lesson = copies(rng, min(40, 6 + step // 40), len(tokenizer))
        else:
            lesson = asked(list(itertools.islice(feed, config.batch)), tokenizer, PROMPT_WEIGHT)
        loss = loss_of(model, lesson)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 200)
            group["lr"] = (
                config.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % config.log_every == 0:
            row = {"step": step + 1, "candidates": size, "loss": round(loss.item(), 4)}
            row |= check(model, tokenizer, unseen(size)) | {"seconds": round(time.perf_counter() - started)}
            log.append(row)
            logger.info(json.dumps(row))
        if (step + 1) % 1000 == 0 or step + 1 == config.stop:
            save(model, tokenizer, config, log, check(model, tokenizer, unseen(20, 512)))


def unseen(candidates: int, examples: int = 96) -> list[Question]:
    """Questions over catalogs of other seeds, answered by the next item."""
    return list(itertools.islice(stream(np.random.default_rng(987_654_321), candidates, known=1.0), examples))


def save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    config: Pretraining,
    log: list[dict[str, float]],
    final: dict[str, float],
) -> None:
    backbone.save(model, config.out)
    tokenizer.save_pretrained(config.out)
    account = {
        "config": json.loads(json.dumps(dataclasses.asdict(config) | {"out": None})),
        "model": MODEL.model_dump(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "unseen_catalogs_20_candidates": final,
        "log": log,
    }
    (config.out / "training.json").write_text(json.dumps(account, indent=1))


if __name__ == "__main__":
    show_messages()
    train(tyro.cli(Pretraining, description=__doc__))
