"""What each stage computes: functions of paths and configs that know nothing of where they run."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedTokenizerBase

from raypref.config import RunConfig
from raypref.config.data import CutConfig
from raypref.config.model import ScratchModel
from raypref.config.recommender import BaselineConfig
from raypref.data.behavioural_tokens import HybridTokenizer, add_mark
from raypref.data.columns import ExampleTable, splits_in, write_shard
from raypref.data.encoding import check_answerable
from raypref.data.examples import asks_for_liked, examples_of
from raypref.data.lengths import Ruler, check_lengths
from raypref.data.prompts import PromptRenderer
from raypref.data.reading import read_log
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.data.splitting import LEAST, PROBES, SPLITS
from raypref.data.tokens import ExampleTokenizer
from raypref.data.yes_no import YesNo
from raypref.models import backbone
from raypref.models.behaviour import attach
from raypref.models.folders import local_folder
from raypref.models.scoring import TitleScorer
from raypref.models.title_features import title_features
from raypref.recommenders import (
    Group,
    Recommender,
    fitted,
    load_recommender,
    training_log,
    validation_questions,
)
from raypref.training.allocator import keep_freed_memory
from raypref.training.batches import all_candidates
from raypref.training.precision import autocast

SETS = (*SPLITS, *PROBES)
TOKENIZER_SAMPLE_SHARDS = 2
SCORING_BATCH = 32
logger = logging.getLogger(__name__)


def prepare(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Read the source, cut examples, write them shard by shard with the catalog and the refused lines."""
    return write_examples(read_log(config.data), config.data, folder)


def write_examples(log: Log, config: CutConfig, folder: Path) -> dict[str, Any]:
    """A log's examples and catalog, as the prepare stage leaves them; its facts."""
    examples = examples_of(log, config)
    for name in ("items", "users", "rejected"):
        pq.write_table(getattr(log, name), folder / f"{name}.parquet")
    facts: dict[str, Any] = {
        "source": log.name,
        "domain": log.domain,
        "liked_targets": asks_for_liked(log, config),
        "users": len(np.unique(examples.user)),
        "items": len(examples.unseen.items),
        "interactions": len(examples.user),
        "rejected_lines": log.rejected.num_rows,
        "longest_title": max(map(len, log.items["title"].to_pylist())),
    }
    counts = {"item": np.arange(log.items.num_rows, dtype=np.int32), "count": examples.train_counts.astype(np.int64)}
    pq.write_table(pa.table(counts), folder / "train_counts.parquet")
    for split in SETS:
        facts[f"{split}_examples"] = examples.rows(split)
        for i, shard in enumerate(examples.shards(split)):
            write_shard(shard, folder, split, i)
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


def titles_of(prepared: Path) -> list[str]:
    """Title of item 0, 1, ..."""
    titles: list[str] = pq.read_table(prepared / "items.parquet", columns=["title"])["title"].to_pylist()
    return titles


def train_counts(prepared: Path) -> np.ndarray:
    """(items,) training interactions of item 0, 1, ..."""
    counts: np.ndarray = pq.read_table(prepared / "train_counts.parquet")["count"].to_numpy()
    return counts


def renderer_of(config: RunConfig, prepared: Path) -> PromptRenderer:
    facts = json.loads((prepared / "facts.json").read_text())
    return PromptRenderer(config.prompt, facts["domain"], facts["liked_targets"])


def make_tokenizer(config: RunConfig, inputs: Mapping[str, Path]) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or one fitted on the catalog and on prompts of the first training examples.

    `inputs`: what the stage reads; `vocabulary` among it is where the training data's tokenizer lies.
    """
    if "vocabulary" in inputs:
        return backbone.load_tokenizer(inputs["vocabulary"] / "tokenizer")
    tokenizer = _make_tokenizer(config, inputs["prepare"])
    if config.system == "llara":
        add_mark(tokenizer)
    return tokenizer


def _make_tokenizer(config: RunConfig, prepared: Path) -> PreTrainedTokenizerBase:
    if not isinstance(config.model, ScratchModel):
        folder = local_folder(config.model)
        return backbone.load_tokenizer(folder or config.model.path, config.model.revision)
    titles, render = titles_of(prepared), renderer_of(config, prepared)

    def texts() -> Iterator[str]:
        yield from (f"{title}\n" for title in titles)
        table = ExampleTable([prepared], "train")
        for i in range(min(TOKENIZER_SAMPLE_SHARDS, table.shards)):
            for row in table.read(i).to_pylist():
                history, candidates = ([titles[item] for item in row[k]] for k in ("history", "candidates"))
                yield render(row["example"], history, row["history_rating"], candidates)

    return backbone.train_tokenizer(texts(), config.model.vocabulary)


def example_tokenizer(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> ExampleTokenizer:
    """What makes tokens of the run's examples; LLaRA's have behavioural ones among them."""
    kind = HybridTokenizer if config.system == "llara" else ExampleTokenizer
    return kind(tokenizer, renderer_of(config, prepared), titles_of(prepared), config.prompt.max_tokens)


def write_tokenizer(config: RunConfig, inputs: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """The run's tokenizer, in `folder`; what it makes of the data set's titles and prompts.

    Raises:
        UserError: titles can't be said with its tokens; prompts, or prompts with titles, are too long.
    """
    tokenizer = make_tokenizer(config, inputs)
    facts = check_tokens(config, inputs["prepare"], tokenizer)
    tokenizer.save_pretrained(folder)
    return facts


def check_tokens(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a tokenizer makes of prepared data, before any of it is tokenized.

    Raises:
        UserError: titles can't be said with its tokens; prompts, or prompts with titles, are too long.
    """
    if line := check_answerable(tokenizer, titles_of(prepared)):
        logger.warning(line)
    if config.system == "tallrec":  # a question has one title, and its answer is Yes or No
        return {}

    def read() -> Iterator[tuple[pa.Table, bool]]:
        for split in splits_in(prepared, SETS):
            for table in ExampleTable([prepared], split, ("history", "history_rating", "candidates")):
                yield table, split in LEAST

    ruler = Ruler(example_tokenizer(config, prepared, tokenizer), backbone.positions(config.model))
    lengths = check_lengths(ruler, read)
    return {"longest_prompt": lengths.longest, "longest_title": lengths.title}


class ShardTokenizer:
    """Writes the tokens of one shard after another; made once per process."""

    def __init__(self, config: RunConfig, prepared: Path, tokenizer_folder: Path, out: Path) -> None:
        tokenizer = backbone.load_tokenizer(tokenizer_folder)
        self.prepared, self.out = prepared, out
        self.tokenize = example_tokenizer(config, prepared, tokenizer)

    def __call__(self, split: str, shard: int) -> int:
        """Tokens of a shard's prompts."""
        columns = ("history", "history_rating", "candidates")
        tokens = self.tokenize(ExampleTable([self.prepared], split, columns).read(shard), least=split in LEAST)
        write_shard(tokens, self.out, split, shard)
        return len(tokens["prompt_ids"].combine_chunks().flatten())


def asker_of(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> YesNo:
    domain = json.loads((prepared / "facts.json").read_text())["domain"]
    return YesNo(tokenizer, config.prompt, domain, titles_of(prepared))


class ShardAsker:
    """Writes TALLRec's questions of one shard after another, to learn from; made once per process."""

    def __init__(self, config: RunConfig, prepared: Path, tokenizer_folder: Path, out: Path) -> None:
        self.config, self.prepared, self.out = config.tallrec, prepared, out
        self.asker = asker_of(config, prepared, backbone.load_tokenizer(tokenizer_folder))

    def __call__(self, split: str, shard: int) -> int:
        """Tokens of a shard's questions."""
        columns = ("history", "history_rating", "candidates", "target")
        questions = self.asker.training(ExampleTable([self.prepared], split, columns).read(shard), self.config)
        write_shard(questions, self.out, split, shard)
        return len(questions["prompt_ids"].combine_chunks().flatten())


def token_writer(stage_config: Mapping[str, Any]) -> tuple[type, tuple[str, ...]]:
    """What writes a tokenize stage's shards, and of which splits."""
    if "questions" in stage_config:
        return ShardAsker, ("train", "validation")
    return ShardTokenizer, tuple(name for name in SETS if name != "train" or "held_out" not in stage_config)


class ShardScorer:
    """Writes the reference's log-probs of all candidates of one shard after another; holds the SFT model.

    With `align.reference: base` the SFT model's adapter is off, which leaves the base model.
    """

    def __init__(self, config: RunConfig, inputs: dict[str, Path], out: Path) -> None:
        self.inputs, self.out = inputs, out
        self.model, self.tokenizer = load_policy(config, inputs["tokenize"], inputs["sft"])
        self.scorer = TitleScorer(self.model.eval())
        if self.model.device.type == "cpu":
            keep_freed_memory()
        self.base = config.align.reference == "base"
        self.autocast = autocast(config.resources, self.model.device)

    @torch.no_grad()
    def __call__(self, split: str, shard: int) -> int:
        """Titles scored."""
        table = ExampleTable([self.inputs["tokenize"]], split).read(shard)
        logps = []
        with self.model.disable_adapter() if self.base else contextlib.nullcontext(), self.autocast:
            for first in range(0, table.num_rows, SCORING_BATCH):
                part = table.slice(first, SCORING_BATCH)
                batch = all_candidates(part, self.tokenizer.pad_token_id, self.scorer.rows())
                logps += list(self.scorer(batch.to(self.model.device)).float().cpu().numpy())
        write_shard(pa.table({"example": table["example"], "ref_logps": logps}), self.out, split, shard)
        return sum(map(len, logps))


def fit_expert(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Fit the expert on the training interactions, which the source holds and the examples only show in part."""
    log = SOURCES[config.data.source.kind](config.data.source)
    training = training_log(examples_of(log, config.data), log.items.num_rows)
    expert, facts = fitted(config.expert, training, device())
    expert.save(folder / "model")
    return {name: value for name, value in facts.items() if name != "curve"}


def encode_titles(config: RunConfig, prepared: Path, folder: Path) -> dict[str, Any]:
    """What the run's model, as it comes, makes of each title: `features.npy` (items, width)."""
    titles = titles_of(prepared)
    if isinstance(config.model, ScratchModel):
        tokenizer = backbone.train_tokenizer((f"{title}\n" for title in titles), config.model.vocabulary)
    else:
        tokenizer = make_tokenizer(config, {"prepare": prepared})
    model: Any = backbone.build(config.model.model_copy(update={"lora": None}), tokenizer)
    features = title_features(model.to(device()), tokenizer, titles)
    np.save(folder / "features.npy", features)
    return {"items": len(features), "width": features.shape[1]}


def fit_baseline(
    config: RunConfig, baseline: BaselineConfig, group: Group, features: np.ndarray | None = None
) -> tuple[Recommender, dict[str, Any]]:
    """A recommender on the run's data; the validation split says when to stop, and which penalty."""
    log = SOURCES[config.data.source.kind](config.data.source)
    examples = examples_of(log, config.data)
    training = training_log(examples, log.items.num_rows)
    return fitted(baseline, training, device(), validation_questions(examples), group, features)


class ShardExpert:
    """Writes the expert's columns of one shard after another; holds the fitted recommender, on the CPU."""

    def __init__(self, prepared: Path, fitted: Path, out: Path) -> None:
        self.prepared, self.out = prepared, out
        self.expert = load_recommender(fitted / "model")

    def __call__(self, split: str, shard: int) -> int:
        """Candidates judged."""
        table = ExampleTable([self.prepared], split, ("history", "candidates")).read(shard)
        candidates = np.array(table["candidates"].to_pylist())
        sequences = self.expert.sequence_embedding([np.array(history) for history in table["history"].to_pylist()])
        columns = {
            "expert_scores": self.expert.scores(sequences, candidates),
            "expert_confidences": self.expert.confidences(sequences, candidates),
            "sequence_embedding": sequences,
        }
        lists = {name: list(values.numpy()) for name, values in columns.items()}
        write_shard(pa.table({"example": table["example"], **lists}), self.out, split, shard)
        return candidates.size


def attach_behaviour(config: RunConfig, model: Any, tokenizer: PreTrainedTokenizerBase, expert: Path) -> None:
    """Let a fresh policy read behavioural tokens, from what the expert stage in `expert` knows of the items."""
    items = load_recommender(expert / "model").item_embedding
    attach(model, items, len(tokenizer), config.llara.hidden, config.model.seed)


def load_policy(config: RunConfig, tokenized: Path, trained: Path | None) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model that an sft or align stage left, or the untrained one, on this process's device, and its tokenizer."""
    tokenizer = backbone.load_tokenizer(tokenized / "tokenizer")
    if trained is None:
        model = backbone.build(config.model.model_copy(update={"lora": None}), tokenizer)
    else:
        model = backbone.restore(config.model, tokenizer, trained / "model")
    return model.to(device()), tokenizer  # type: ignore[arg-type]


def device() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def head(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The first `rows` rows of a sequence of tables, all for None."""
    for table in tables:
        if rows is None:
            yield table
            continue
        if rows <= 0:
            return
        yield table.slice(0, rows)
        rows -= table.num_rows
