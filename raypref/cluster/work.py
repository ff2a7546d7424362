"""What a training's workers are given: part of a run, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass

from raypref.stages.stage import Chain, Stage


@dataclass(frozen=True)
class Work:
    """What each worker of a group is given."""

    run: Chain
    stages: tuple[Stage, ...]
    root: str
    """The store's location."""
    threads: int
    streamed: bool = False
    """Whether Ray Data streams the training table to the workers; a small one they read themselves."""
    board: str | None = None
    """Name of an actor whose `show` is told of every step."""
