"""What a training stage reads: its part of the config, and the folders of its table."""

from __future__ import annotations

from pathlib import Path

from raypref.config.training import TrainingConfig
from raypref.stages.chain import Chain, Stage
from raypref.store import Store


def training_config(chain: Chain, stage: Stage) -> TrainingConfig:
    return chain.config.align if stage.kind == "align" else chain.config.sft


def training_folders(stage: Stage, store: Store) -> list[Path]:
    """Folders whose columns make this stage's training table."""
    paths = stage.input_paths(store)
    return [paths[name] for name in ("tokenize", "prepare", "reference", "expert") if name in paths]
