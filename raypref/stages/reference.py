"""reference: log-probs of all candidates under the frozen SFT model, so that training holds one model."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from raypref.config import RunConfig
from raypref.data.columns import ExampleTable, write_shard
from raypref.stages.stage import Kind, Shards, Stage, splits_of

SCORING_BATCH = 32


def reference_stage(config: RunConfig, inputs: Mapping[str, Stage]) -> Stage:
    """The stage that scores with the model of `inputs`, or with its base."""
    content: dict[str, Any] = {"splits": ["train", "validation"], "model": config.align.reference}
    if config.resources.precision != "auto":  # log-probs of one precision are no reference in another
        content["precision"] = config.resources.precision
    return Stage(REFERENCE, config.name, content, inputs)


class ShardScorer:
    """Writes the reference's log-probs of all candidates of one shard after another; holds the SFT model.

    With `align.reference: base` the SFT model's adapter is off, which leaves the base model.
    """

    def __init__(self, config: RunConfig, inputs: dict[str, Path], made: Path, out: Path) -> None:
        from raypref.models.scoring import TitleScorer
        from raypref.stages.policy import load_policy
        from raypref.training.allocator import keep_freed_memory
        from raypref.training.precision import autocast

        self.inputs, self.out = inputs, out
        self.model, self.tokenizer = load_policy(config, inputs["tokenize"], inputs["sft"])
        self.scorer = TitleScorer(self.model.eval(), config.resources.attention)
        if self.model.device.type == "cpu":
            keep_freed_memory()
        self.base = config.align.reference == "base"
        self.autocast = autocast(config.resources, self.model.device)

    def __call__(self, split: str, shard: int) -> int:
        """Titles scored."""
        import torch

        from raypref.models.layout import all_candidates

        table = ExampleTable([self.inputs["tokenize"]], split).read(shard)
        logps = []
        with torch.no_grad(), self.model.disable_adapter() if self.base else contextlib.nullcontext(), self.autocast:
            for first in range(0, table.num_rows, SCORING_BATCH):
                part = table.slice(first, SCORING_BATCH)
                batch = all_candidates(part, self.tokenizer.pad_token_id, self.scorer.rows())
                logps += list(self.scorer(batch.to(self.model.device)).float().cpu().numpy())
        write_shard(pa.table({"example": table["example"], "ref_logps": logps}), self.out, split, shard)
        return sum(map(len, logps))


def _worker(stage: Stage) -> type[ShardScorer]:
    return ShardScorer


REFERENCE = Kind("reference", 1, "shards", Shards(_worker, splits_of, "titles_scored", trained=True))
