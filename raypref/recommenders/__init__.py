"""Recommenders on item codes: baselines, and the expert of NAPO and EAPO.

To add one that is fitted: subclass `SequentialRecommender` (one method, `encode`), give it a config in
`raypref.config.recommender`, and name it in `RECOMMENDERS`; `fit` fits them all.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from raypref.config.recommender import BaselineConfig, FittedConfig
from raypref.recommenders.caser import Caser
from raypref.recommenders.fitting import Group, fit
from raypref.recommenders.floors import Popularity, Random
from raypref.recommenders.gru4rec import GRU4Rec
from raypref.recommenders.log import Questions, TrainingLog, training_log, validation_questions
from raypref.recommenders.morec import MoRec
from raypref.recommenders.recommender import Recommender, SequentialRecommender
from raypref.recommenders.sasrec import SASRec

SEQUENTIAL: dict[str, type[SequentialRecommender]] = {
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "caser": Caser,
    "morec": MoRec,
}
RECOMMENDERS: dict[str, type[Recommender]] = {**SEQUENTIAL, "random": Random, "popularity": Popularity}


def fitted(
    config: BaselineConfig,
    log: TrainingLog,
    device: torch.device,
    questions: Questions | None = None,
    group: Group | None = None,
    features: np.ndarray | None = None,
) -> tuple[Recommender, dict[str, Any]]:
    """The recommender that `config` names, made from `log`, and facts for the manifest; as `fit`.

    Args:
        features: (V, F) of the items' titles, where it reads them.
    """
    if isinstance(config, FittedConfig):
        kind: Any = SEQUENTIAL[config.recommender]
        kind = kind if features is None else partial(kind, features=features)
        return fit(kind, log, config, device, questions, group or Group())
    model = RECOMMENDERS[config.recommender](config, log.items)
    return (model.count(log) if isinstance(model, Popularity) else model), {"interactions": len(log.user)}


def load_recommender(folder: Path) -> Any:
    """The fitted model that `Recommender.save` left in `folder`, on the CPU, without dropout."""
    content = json.loads((folder / "config.json").read_text())
    items = content.pop("items")
    config: BaselineConfig = TypeAdapter(BaselineConfig).validate_python(content)
    model = RECOMMENDERS[config.recommender](config, items)
    model.restore(folder)
    return model.eval()


__all__ = [
    "RECOMMENDERS",
    "Group",
    "Questions",
    "Recommender",
    "SequentialRecommender",
    "TrainingLog",
    "fit",
    "fitted",
    "load_recommender",
    "training_log",
    "validation_questions",
]
