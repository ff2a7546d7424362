"""A reference that follows the policy: its log-probs are computed anew for each step's titles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raypref.config.training import AlignConfig
from raypref.models.layout import TitleBatch

if TYPE_CHECKING:
    from raypref.training.batches import Batch
    from raypref.training.engine import Engine

PREFIX = "reference/"
"""Of its weights' names in the objective's state, with which they are checkpointed."""


class MovingReference:
    """The policy's trained weights of some time ago, or their running mean; begins at the SFT model.

    ema: `w <- d w + (1 - d) policy` after each step. replace: a copy of the policy every n steps (as iterated DPO).
    Costs one more pass without gradient a step, and a second copy of what is trained.
    """

    def __init__(self, engine: Engine, config: AlignConfig, state: dict[str, Tensor]) -> None:
        """`state`: the objective's, which holds the weights; they are taken up from it after a resume."""
        self.engine, self.config, self.state = engine, config, state
        for name, weight in engine.trained().items():
            state.setdefault(PREFIX + name, weight.detach().clone())

    @torch.no_grad()
    def score(self, titles: TitleBatch) -> Tensor:
        """(B, C) log-probs of a batch's titles under the reference, dropout off (collective)."""
        with self._in_place():
            return self.engine.score(titles)

    def fill(self, batches: list[Batch]) -> None:
        """Give each micro-batch the reference's log-probs of its own titles."""
        self.engine.train(False)
        for batch in batches:
            logps = self.score(batch.titles)
            batch.columns |= {"ref_logps_pos": logps[:, 0], "ref_logps_neg": logps[:, 1:]}
        self.engine.train(True)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move after `step` steps of the policy."""
        if self.config.reference_update == "replace" and step % self.config.reference_every:
            return
        kept = self.config.reference_decay if self.config.reference_update == "ema" else 0.0
        for name, weight in self.engine.trained().items():
            self.state[PREFIX + name].lerp_(weight.detach(), 1 - kept)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """The reference's weights in the policy's place, which are put back to the bit."""
        trained = self.engine.trained()
        policy = {name: weight.detach().clone() for name, weight in trained.items()}
        try:
            for name, weight in trained.items():
                weight.copy_(self.state[PREFIX + name])
            yield
        finally:
            for name, weight in trained.items():
                weight.copy_(policy[name])
