"""Trains `raypref-tiny`, the base model that the package ships: a small Llama that answers with one of the candidates.

The papers fine-tune language models that follow instructions and know what words mean. A model of this size learns both
from scratch only after thousands of steps. So it is learned once, on generated users of generated catalogs that are
never seen again: to copy, to read what a title's words say of its genre and mood, and to answer with the candidate that
the user took next. It is told nothing but what its users did: no rule, genre or mood is shown to it.

    python -m raypref.pretraining.tiny --out raypref/base
What it reads is said in `tastes.py`, how it is asked in `lessons.py` and `judging.py`. Started again, it goes on from
its checkpoint.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tokenizers import Regex
from transformers import PreTrainedTokenizerBase

from raypref.config.data import PromptConfig
from raypref.config.model import PretrainedModel
from raypref.data.encoding import encode_prompts
from raypref.data.prompts import DOMAINS, RATING, PromptRenderer
from raypref.messages import show_messages
from raypref.models import backbone
from raypref.pretraining.adaptation import reembed
from raypref.pretraining.judging import GATHERED, JUDGED, MODEL, READER, Judge, below, looking, writing
from raypref.pretraining.lessons import Lesson, Question, adamw, asked, check, copies, descend, loss_of, padded
from raypref.pretraining.tastes import TITLES, Catalog, catalog, held_out

logger = logging.getLogger("raypref.pretraining.tiny")  # by its name also where it is run as a program

COPIES_LATER = 0.03  # share of later steps that are copies
HISTORIES = 0.1  # share of later steps that are histories
HISTORY_WEIGHT = 0.1  # of a history's token in a prompt, against a token of the answer
READ_HISTORY_WEIGHT = 0.002  # likewise where the reader learns
LONGEST = 30  # items of a history
STEPS_A_CATALOG = 8
LOOKING, WRITING, ANSWERING = 0.5, 0.3, 10.0  # weights of the reader's losses and of the answer's, against the judges'
FEWEST, CANDIDATES = 4, 20  # of a prompt, at first and in the end
LISTENING = 100  # steps that new judges learn for themselves, before a model that knows something learns of them
CHECKPOINT = "checkpoint.pt"
TRIED = 400  # users whose HR@1 the log shows


@dataclasses.dataclass
class Pretraining:
    """How the base model is trained."""

    out: Path = Path("raypref/base")
    """Folder for the weights, the tokenizer and training.json."""
    start: Path | None = None
    """A folder with a model that can copy already, which goes on from there; none: from random weights."""
    steps: int = 4200
    batch: int = 32
    learning_rate: float = 2e-3
    copy_steps: int = 1800
    """First steps, on random sequences written twice, ever longer: what copying heads are made of."""
    grow_steps: int = 600
    """Steps after those over which the number of candidates grows from 2 to 20."""
    decay: float = 0.3
    """Share of the steps, the last ones, over which the learning rate falls to nothing."""
    seed: int = 0
    threads: int = 1
    among_random: float = 0.5
    """Share of catalogs whose prompts hold one item of the user's own, as an evaluation's do; else half of the items
    are own, and the judge is asked for each."""
    swapped: float = 0.0
    """Share of catalogs whose users choose by genre as the default data's do by mood, and the reverse: where genres say
    little beside moods, they are slow to learn."""
    read: bool = False
    """The last layer is taught to read, for the answer, the candidate that the judge's layer has found."""
    log_every: int = 200


def make_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer in which a word of the lexicon is one token, and so is a line of a template or a rating."""
    lines = set()
    for domain, liked, least in itertools.product(DOMAINS, (True, False), (True, False)):
        render = PromptRenderer(PromptConfig(), domain, liked)
        for template, rating in itertools.product(range(3), (5.0, float("nan"))):
            prompt = render(template, ["|"], [rating], ["|"], least=least)
            lines |= {line for line in prompt.split("\n") if "|" not in line}
    texts = [f"{line}\n" for line in sorted(lines) for _ in range(200)]
    texts += [f"{title}\n" for title in sorted(TITLES)]
    texts += [f"{RATING}{rating}\n" for rating in range(1, 6) for _ in range(200)]
    word, rated = Regex(r"(?<!\|) [A-Z][^ \n]*"), Regex(r" \| Rating: \d")
    return backbone.train_tokenizer(texts, MODEL.vocabulary, apart=("\n", rated, word), join=True)


class Lessons:
    """The lesson of any step: the same for the same seed, wherever training begins."""

    def __init__(self, config: Pretraining, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.held_out = held_out()
        self.block = -1
        self.catalog: Catalog
        self.questions: Any

    def candidates(self, step: int) -> int:
        """How many candidates a prompt of this step has."""
        grown = (step - self.config.copy_steps) / max(self.config.grow_steps, 1)
        return int(np.clip(FEWEST + int((CANDIDATES - FEWEST) * grown), FEWEST, CANDIDATES))

    def __call__(self, step: int) -> Lesson:
        rng = np.random.default_rng([self.config.seed, 1, step])
        if step < self.config.copy_steps or rng.random() < COPIES_LATER:
            return copies(rng, min(40, 6 + 34 * step // max(self.config.copy_steps, 1)), len(self.tokenizer))
        if step // STEPS_A_CATALOG != self.block:
            self.block = step // STEPS_A_CATALOG
            drawn = np.random.default_rng([self.config.seed, 2, self.block])
            own, swapped = self.config.among_random, self.config.swapped
            self.catalog = catalog(drawn, self.candidates(step), self.held_out, among_random=own, swapped=swapped)
            self.questions = self.catalog.questions()
        if rng.random() < HISTORIES:
            texts = list(self.catalog.histories(LONGEST))
            read = encode_prompts(self.tokenizer, [texts[i] for i in rng.permutation(len(texts))[: self.config.batch]])
            return padded(read, [[1.0] * len(ids) for ids in read], self.tokenizer.pad_token_id)
        batch = list(itertools.islice(self.questions, self.config.batch))
        if not batch:
            self.questions = self.catalog.questions()
            batch = list(itertools.islice(self.questions, self.config.batch))
        return asked(batch, self.tokenizer, READ_HISTORY_WEIGHT if self.config.read else HISTORY_WEIGHT)


def unseen(candidates: int, examples: int) -> list[Question]:
    """Questions over titles and users that training never sees, laid out as the default data's."""
    rng = np.random.default_rng(987_654_321)
    found = catalog(rng, candidates, TITLES - held_out(), plain=True, users=examples)
    return list(itertools.islice(found.questions("test"), examples))


def train(config: Pretraining) -> None:
    """Train, save the model as float32 safetensors with its tokenizer, and an account of how."""
    torch.set_num_threads(config.threads)
    tokenizer = make_tokenizer()
    logger.info(f"{len(tokenizer)} tokens")
    torch.manual_seed(config.seed)
    if config.start is None:
        model: Any = backbone.build(MODEL.model_copy(update={"seed": config.seed}), tokenizer)
    else:
        known = backbone.load_tokenizer(str(config.start))
        model = backbone.build(PretrainedModel(path=str(config.start), dtype="float32", lora=None), known)
        reembed(model, known, tokenizer, config.seed)
    model.train()
    if config.read:
        model.set_attn_implementation("eager")  # the one that tells where its heads look
    judge, gathered = Judge(), Judge(words=1)
    optimizer = adamw([*model.parameters(), *judge.parameters(), *gathered.parameters()])
    lessons, log, losses, judgements, first, spent = Lessons(config, tokenizer), [], [], [], 0, 0.0
    saved, before = config.out / CHECKPOINT, config.start and config.start / CHECKPOINT
    if before is not None and before.exists():  # judges that know their layer already, so as not to unlearn it
        state = torch.load(before, weights_only=True)
        judge.load_state_dict(state["judge"])
        gathered.load_state_dict(state["gathered"])
    listening = 0 if config.start is None or (before and before.exists()) else LISTENING
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        judge.load_state_dict(state["judge"])
        gathered.load_state_dict(state["gathered"])
        optimizer.load_state_dict(state["optimizer"])
        first, log, spent = state["step"], state["log"], state["seconds"]
    started = time.perf_counter() - spent
    for step in range(first, config.steps):
        falling = (config.steps - step) / (config.decay * config.steps)
        lesson = lessons(step)
        if lesson.liked is not None and lesson.liked.sum(-1).max() > 1:
            # Which of several the user took first is a guess: only the judge is asked, in half the time.
            loss = judge(below(model, lesson), lesson)
            judgements.append(loss.item())
        else:
            reads = config.read and lesson.liked is not None
            seen = {"output_hidden_states": True, "output_attentions": reads}
            output = model.base_model(input_ids=lesson.ids, use_cache=False, **seen)
            loss = loss_of(model, lesson, output.last_hidden_state)
            losses.append(loss.item())
            if reads:
                loss = ANSWERING * loss + LOOKING * looking(output.attentions, lesson)
                loss = loss + WRITING * writing(model, output.hidden_states[READER], lesson)
            if lesson.liked is not None:
                heard = [states.detach() if step < listening else states for states in output.hidden_states]
                loss = loss + judge(heard[JUDGED], lesson) + gathered(heard[GATHERED], lesson)
        descend(model, optimizer, loss, config.learning_rate * min(1.0, (step + 1) / 100, falling))
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            size = lessons.candidates(step)
            row = {"step": step + 1, "candidates": size, "loss": round(float(np.mean(losses)), 4)}
            row |= {"judged": round(float(np.mean(judgements)), 4)} if judgements else {}
            losses.clear()
            judgements.clear()
            row |= tried(model, judge, tokenizer, unseen(CANDIDATES, TRIED)) | {
                "seconds": round(time.perf_counter() - started)
            }
            log.append(row)
            logger.info(json.dumps(row | {"cpu": round(time.process_time())}))
            save(model, tokenizer, config, log)
            learned = {"model": model, "judge": judge, "gathered": gathered, "optimizer": optimizer}
            state = {name: part.state_dict() for name, part in learned.items()} | {"step": step + 1, "log": log}
            torch.save(state | {"seconds": time.perf_counter() - started}, saved)


@torch.no_grad()
def tried(model: Any, judge: Judge, tokenizer: PreTrainedTokenizerBase, questions: list[Question]) -> dict[str, float]:
    """Of users and titles that it never saw: the shares of `check`, how often the judge is right, and its loss."""
    right, loss = 0.0, 0.0
    for part in (questions[i : i + 64] for i in range(0, len(questions), 64)):
        lesson = asked(part, tokenizer, HISTORY_WEIGHT)
        assert lesson.liked is not None
        states = below(model, lesson)
        best = judge.scores(states, lesson).argmax(-1, keepdim=True)
        right += lesson.liked.gather(-1, best).sum().item()
        loss += judge(states, lesson).item() * len(part)
    judged = {"judge": right / len(questions), "judge_loss": loss / len(questions)}
    return {name: round(value, 4) for name, value in (check(model, tokenizer, questions) | judged).items()}


def save(model: Any, tokenizer: PreTrainedTokenizerBase, config: Pretraining, log: list[dict[str, float]]) -> None:
    """The model and its account, as they are now."""
    config.out.mkdir(parents=True, exist_ok=True)
    backbone.save(model, config.out)
    tokenizer.save_pretrained(config.out)
    account = {
        "config": dataclasses.asdict(config) | {"out": None, "start": config.start and config.start.name},
        "model": MODEL.model_dump(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "log": log,
        "before": _account(config.start),
    }
    (config.out / "training.json").write_text(json.dumps(account, indent=1))


def _account(folder: Path | None) -> dict[str, Any] | None:
    """How the model that training starts from was made itself, as far as its folder tells."""
    if folder is None or not (folder / "training.json").exists():
        return None
    account: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return account


if __name__ == "__main__":
    show_messages()
    train(tyro.cli(Pretraining, description=__doc__))
