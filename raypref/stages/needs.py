"""What a run asks of a worker's memory and of its model's positions, before anything is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
import torch

from raypref.config import RunConfig
from raypref.config.model import ScratchModel
from raypref.data.columns import ExampleTable
from raypref.data.lengths import SPARE
from raypref.errors import UserError
from raypref.models import backbone
from raypref.models.layout import document_length
from raypref.models.memory import Peak, predict
from raypref.stages.stage import AlignedChain, Chain
from raypref.stages.tokenize import check_tokens, make_tokenizer
from raypref.storage.store import Store

UNKNOWN_TITLE = 16  # tokens of a title, where none has been tokenized yet
GB = 1e9


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest prompt, of a long title (the 95th percentile), of the vocabulary."""

    prompt: int
    title: int
    vocabulary: int


def lengths(run: AlignedChain, store: Store) -> Lengths:
    """Of the tokenized data where there are any, else what the config allows."""
    model, tokenized = run.config.backbone, store.path(run.tokenize.address)
    if not store.done(run.tokenize.address):
        vocabulary = model.vocabulary if isinstance(model, ScratchModel) else 0
        return Lengths(run.config.prompt.max_tokens, UNKNOWN_TITLE, vocabulary)
    table = ExampleTable([tokenized], "train").read(0)
    titles = [len(ids) for row in table["title_ids"].to_pylist() for ids in row]
    prompts = max(len(ids) for ids in table["prompt_ids"].to_pylist())
    return Lengths(prompts, int(np.percentile(titles, 95)), len(backbone.load_tokenizer(tokenized / "tokenizer")))


def alignment_peak(run: AlignedChain, store: Store) -> Peak:
    """The predicted peak of an alignment step on one worker, all its prompts as long as the longest."""
    config, resources = run.config, run.config.resources
    seen, titles = lengths(run, store), titles_at_once(config)
    examples = min(resources.micro_batch, config.align.global_batch // resources.workers)
    if resources.micro_tokens is not None:
        examples = max(1, resources.micro_tokens // document_length(seen.prompt, [seen.title] * titles))
    return predict(config.backbone, seen.vocabulary, resources, [seen.prompt] * examples, seen.title, titles)


def titles_at_once(config: RunConfig) -> int:
    """Titles of an example in an alignment step: with K negatives, or all candidates where the policy chooses."""
    if config.align.negatives_by in ("draw", "utility"):
        return 1 + config.align.negatives
    return config.data.candidates.train_future + config.data.candidates.train_random


def memory_line(run: AlignedChain, store: Store) -> str:
    """A worker's predicted peak beside what this machine has for it."""
    resources = run.config.resources
    try:
        peak = alignment_peak(run, store)
    except UserError as error:
        return f"memory of a worker: not known, {error.what}"
    parts = ", ".join(f"{name} {getattr(peak, name) / GB:.3f}" for name in ("weights", "optimizer", "activations"))
    line = f"memory of a worker in alignment: {peak.total / GB:.2f} GB at the peak ({parts})"
    if resources.gpus_per_worker:
        if not torch.cuda.is_available():
            return f"{line}; this machine has no GPU to compare with"
        has = torch.cuda.get_device_properties(0).total_memory * min(1.0, resources.gpus_per_worker)
        return f"{line}; its GPU has {has / GB:.1f} GB" + _warning(peak.total > has)
    process = psutil.Process().memory_info().rss  # Python, torch and transformers, as here
    has = psutil.virtual_memory().available / resources.workers
    line += f" and {process / GB:.2f} for the process; there are {has / GB:.1f} GB for it here"
    return line + _warning(peak.total + process > has)


def length_line(run: Chain, store: Store) -> str:
    """Whether prompts and titles fit the model: of prepared data as they are, else what the config allows."""
    config = run.config
    tokenize = next((stage for stage in run if stage.kind == "tokenize"), None)
    if tokenize is None:
        return ""
    prepared = store.path(tokenize.inputs["prepare"].address)
    try:
        positions = backbone.positions(config.backbone)
        if store.done(tokenize.inputs["prepare"].address):
            inputs = {name: store.path(stage.address) for name, stage in tokenize.inputs.items()}
            found = check_tokens(config, prepared, make_tokenizer(config, inputs))
            told = f"prompts of up to {found['longest_prompt']:,} tokens, titles of {found['longest_title']:,}"
            return f"{told}; the model has {positions:,} positions" if positions else told
    except UserError as error:
        return f"TOO LONG: {error}"
    room = None if positions is None else positions - UNKNOWN_TITLE - SPARE
    if room is None or config.prompt.max_tokens <= room:
        return ""
    return (
        f"prompts may have {config.prompt.max_tokens:,} tokens (prompt.max_tokens), and the model has {positions:,} "
        f"positions: runs with longer ones are refused; --prompt.max-tokens {room} keeps to it"
    )


def _warning(too_much: bool) -> str:
    return " - TOO LITTLE: lower resources.micro_batch, or set model.gradient_checkpointing" if too_much else ""
