"""An actor that runs the stages before the trials in groups of workers that it keeps, the last one for the first trial.

It is in the place of Ray Train's controller, which is a process of its own too but ends with each stage.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from raypref.errors import UserError
from raypref.stages.chain import Chain, Stage
from raypref.stages.train_group import fit
from raypref.store import Store
from raypref.sweeps import kept_workers
from raypref.sweeps.kept_workers import Kept
from raypref.sweeps.trial_trainer import TrialTrainer


class StageRunner:
    """The actor."""

    def fit(self, run: Chain, stages: list[Stage], root: str, name: str) -> None:
        fit(run, stages, Store(root), name, TrialTrainer)

    def give(self) -> Kept | None:
        return kept_workers.give()

    def release(self) -> None:
        kept_workers.release()


class SharedStages:
    """The driver's side of it; the actor is started when there is something to train, and ends with this."""

    def __init__(self) -> None:
        self._actor: Any = None

    def fit(self, run: Chain, stages: list[Stage], store: Store, name: str) -> None:
        """As `train_group.fit`.

        Raises:
            the stage's own exception where it is a UserError, else Ray's.
        """
        if self._actor is None:
            self._actor = ray.remote(num_cpus=0)(StageRunner).remote()
        try:
            ray.get(self._actor.fit.remote(run, stages, store.location, name))
        except RayTaskError as error:
            cause: Any = error.cause
            raise cause if isinstance(cause, UserError) else error from None
        except RayActorError:
            self._actor = None
            raise

    def give(self) -> Kept | None:
        """The group that is kept, for a trial; it lives as long as this."""
        found: Kept | None = self._asked("give")
        return found

    def release(self) -> None:
        """End the group that is kept, if there is one: others need its resources."""
        self._asked("release")

    def _asked(self, what: str) -> Any:
        """What the actor answers; nothing where there is none, or none any more: its workers ended with it."""
        if self._actor is None:
            return None
        try:
            return ray.get(getattr(self._actor, what).remote())
        except RayActorError:
            self._actor = None
            return None
