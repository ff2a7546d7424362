"""Sequential recommenders on item codes: baselines, and the expert of NAPO and EAPO.

To add one: subclass `SequentialRecommender` (one method, `encode`), name it in `RECOMMENDERS` and in
`ExpertConfig.recommender`; `fit` fits them all.
"""

from __future__ import annotations

import json
from pathlib import Path

from raypref.config.recommender import ExpertConfig
from raypref.recommenders.fitting import fit
from raypref.recommenders.log import TrainingLog, training_log
from raypref.recommenders.recommender import SequentialRecommender
from raypref.recommenders.sasrec import SASRec

RECOMMENDERS: dict[str, type[SequentialRecommender]] = {"sasrec": SASRec}


def load_recommender(folder: Path) -> SequentialRecommender:
    """The fitted model that `SequentialRecommender.save` left in `folder`, on the CPU, without dropout."""
    content = json.loads((folder / "config.json").read_text())
    items = content.pop("items")
    config = ExpertConfig.model_validate(content)
    model = RECOMMENDERS[config.recommender](config, items)
    model.restore(folder)
    return model.eval()


__all__ = ["RECOMMENDERS", "SequentialRecommender", "TrainingLog", "fit", "load_recommender", "training_log"]
