"""expert: the sequential recommender of NAPO and EAPO is fitted, and judges each example's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raypref.config import RunConfig
from raypref.data.columns import ExampleTable, write_shard
from raypref.stages.prepare import training_log_of
from raypref.stages.stage import Chain, Kind, Shards, Stage, splits_of


def expert_stage(config: RunConfig, whole: dict[str, Any], prepare: Stage) -> Stage:
    """The stage that fits the expert on the training interactions; `whole`: the config, JSON-ready."""
    content = {"recommender": whole["expert"], "splits": ["train", "validation"]}
    return Stage(EXPERT, config.name, content, {"prepare": prepare})


def _fit(chain: Chain, inputs: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Fit on the training interactions, of which the examples only show a part."""
    from raypref.recommenders import fitted
    from raypref.stages.policy import device

    expert, facts = fitted(chain.config.expert, training_log_of(inputs["prepare"]), device())
    expert.save(folder / "model")
    return {name: value for name, value in facts.items() if name != "curve"}


class ShardExpert:
    """Writes the expert's columns of one shard after another; holds the fitted recommender, on the CPU."""

    def __init__(self, config: RunConfig, inputs: dict[str, Path], made: Path, out: Path) -> None:
        from raypref.recommenders import load_recommender

        self.prepared, self.out = inputs["prepare"], out
        self.expert = load_recommender(made / "model")

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


def _worker(stage: Stage) -> type[ShardExpert]:
    return ShardExpert


EXPERT = Kind("expert", 2, "shards", Shards(_worker, splits_of, "judged", first=_fit, trains=True))
