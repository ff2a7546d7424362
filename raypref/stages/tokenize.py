"""tokenize: tokens of prompts and titles, or of TALLRec's questions, shard by shard; and the tokenizer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raypref.config import RunConfig
from raypref.config.model import ScratchModel
from raypref.config.systems import SYSTEMS
from raypref.data.columns import ExampleTable, splits_in, write_shard
from raypref.data.splitting import LEAST
from raypref.models.folders import local_folder
from raypref.stages.identity import chat_identity, prompt_identity
from raypref.stages.prepare import SETS, renderer_of, titles_of
from raypref.stages.stage import Chain, Kind, Shards, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from raypref.data.tokens import ExampleTokenizer
    from raypref.data.yes_no import YesNo

TOKENIZER_SAMPLE_SHARDS = 2
logger = logging.getLogger(__name__)


def tokenize_stage(
    config: RunConfig,
    whole: dict[str, Any],
    model: dict[str, Any],
    inputs: Mapping[str, Stage],
    form: Mapping[str, Any] | None = None,
) -> Stage:
    """The stage that makes tokens of the examples in `inputs`.

    Args:
        whole: the config, JSON-ready. model: what stands for the model in addresses.
        form: what the tokens are of, where they are not of each split's prompts and titles.
    """
    vocabulary = {k: model[k] for k in ("kind", "vocabulary", "content", "path", "revision") if k in model}
    chat = chat_identity(config)
    prompt = prompt_identity(whole) | ({} if chat is None else {"chat": chat})
    content = {"prompt": prompt, "tokenizer": vocabulary, **(form or {})}
    return Stage(TOKENIZE, config.name, content, inputs)


def make_tokenizer(config: RunConfig, inputs: Mapping[str, Path]) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or one fitted on the catalog and on prompts of the first training examples.

    `inputs`: what the stage reads; `vocabulary` among it is where the training data's tokenizer lies.
    """
    from raypref.data.behavioural_tokens import add_mark
    from raypref.models import backbone

    if "vocabulary" in inputs:
        return backbone.load_tokenizer(inputs["vocabulary"] / "tokenizer")
    tokenizer = _make_tokenizer(config, inputs["prepare"])
    if SYSTEMS[config.system].behaviour:
        add_mark(tokenizer)
    return tokenizer


def _make_tokenizer(config: RunConfig, prepared: Path) -> PreTrainedTokenizerBase:
    from raypref.models import backbone

    if not isinstance(config.backbone, ScratchModel):
        folder = local_folder(config.backbone)
        return backbone.load_tokenizer(folder or config.backbone.path, config.backbone.revision)
    titles, render = titles_of(prepared), renderer_of(config, prepared)

    def texts() -> Iterator[str]:
        yield from (f"{title}\n" for title in titles)
        table = ExampleTable([prepared], "train")
        for i in range(min(TOKENIZER_SAMPLE_SHARDS, table.shards)):
            for row in table.read(i).to_pylist():
                history, candidates = ([titles[item] for item in row[k]] for k in ("history", "candidates"))
                yield render(row["example"], history, row["history_rating"], candidates)

    return backbone.train_tokenizer(texts(), config.backbone.vocabulary)


def example_tokenizer(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> ExampleTokenizer:
    """What makes tokens of the run's examples; LLaRA's have behavioural ones among them."""
    from raypref.data.behavioural_tokens import HybridTokenizer
    from raypref.data.tokens import ExampleTokenizer

    kind = HybridTokenizer if SYSTEMS[config.system].behaviour else ExampleTokenizer
    return kind(tokenizer, renderer_of(config, prepared), titles_of(prepared), config.prompt.max_tokens)


def without_list(config: RunConfig) -> RunConfig:
    """`config` with prompts that list no candidates, as any title of the catalog may be the answer."""
    return config.model_copy(update={"prompt": config.prompt.model_copy(update={"candidates": "none"})})


class ShardTokenizer:
    """Writes the tokens of one shard after another; made once per process."""

    def __init__(self, config: RunConfig, inputs: dict[str, Path], made: Path, out: Path) -> None:
        from raypref.models import backbone

        self.prepared, self.out = inputs["prepare"], out
        self.tokenize = example_tokenizer(config, self.prepared, backbone.load_tokenizer(made / "tokenizer"))

    def __call__(self, split: str, shard: int) -> int:
        """Tokens of a shard's prompts."""
        columns = ("history", "history_rating", "candidates")
        tokens = self.tokenize(ExampleTable([self.prepared], split, columns).read(shard), least=split in LEAST)
        write_shard(tokens, self.out, split, shard)
        return len(tokens["prompt_ids"].combine_chunks().flatten())


def asker_of(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> YesNo:
    """What asks TALLRec's questions of the run's examples."""
    from raypref.data.yes_no import YesNo

    domain = json.loads((prepared / "facts.json").read_text())["domain"]
    return YesNo(tokenizer, config.prompt, domain, titles_of(prepared))


class ShardAsker:
    """Writes TALLRec's questions of one shard after another, to learn from; made once per process."""

    def __init__(self, config: RunConfig, inputs: dict[str, Path], made: Path, out: Path) -> None:
        from raypref.models import backbone

        self.config, self.prepared, self.out = config.tallrec, inputs["prepare"], out
        self.asker = asker_of(config, self.prepared, backbone.load_tokenizer(made / "tokenizer"))

    def __call__(self, split: str, shard: int) -> int:
        """Tokens of a shard's questions."""
        columns = ("history", "history_rating", "candidates", "target")
        questions = self.asker.training(ExampleTable([self.prepared], split, columns).read(shard), self.config)
        write_shard(questions, self.out, split, shard)
        return len(questions["prompt_ids"].combine_chunks().flatten())


def _first(chain: Chain, inputs: dict[str, Path], folder: Path) -> dict[str, Any]:
    """The run's tokenizer; what it makes of the data set's titles and prompts."""
    tokenizer = make_tokenizer(chain.config, inputs)
    facts = check_tokens(chain.config, inputs["prepare"], tokenizer)
    tokenizer.save_pretrained(folder / "tokenizer")
    return facts


def check_tokens(config: RunConfig, prepared: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a tokenizer makes of prepared data, before any of it is tokenized.

    Raises:
        UserError: titles can't be said with its tokens; prompts, or prompts with titles, are too long.
    """
    from raypref.data.encoding import check_answerable
    from raypref.data.lengths import Ruler, check_lengths
    from raypref.models import backbone

    if line := check_answerable(tokenizer, titles_of(prepared)):
        logger.warning(line)
    if SYSTEMS[config.system].questions:  # a question has one title, and its answer is Yes or No
        return {}

    def read() -> Iterator[tuple[pa.Table, bool]]:
        for split in splits_in(prepared, SETS):
            for table in ExampleTable([prepared], split, ("history", "history_rating", "candidates")):
                yield table, split in LEAST

    ruler = Ruler(example_tokenizer(config, prepared, tokenizer), backbone.positions(config.backbone))
    lengths = check_lengths(ruler, read)
    return {"longest_prompt": lengths.longest, "longest_title": lengths.title}


def _worker(stage: Stage) -> type[ShardTokenizer | ShardAsker]:
    return ShardAsker if "questions" in stage.config else ShardTokenizer


def _splits(stage: Stage) -> tuple[str, ...]:
    if "questions" in stage.config:
        return ("train", "validation")
    return tuple(name for name in SETS if name != "train" or "held_out" not in stage.config)


TOKENIZE = Kind("tokenize", 3, "shards", Shards(_worker, _splits, "tokens", first=_first))
