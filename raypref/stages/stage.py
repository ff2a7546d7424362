"""What a stage is, what a chain of them is, and what a stage's code is given to work with.

Each sort of stage has a file of its own in this folder. It is imported wherever addresses are computed, so what its
body needs of torch and transformers is imported in the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raypref.config import RunConfig
from raypref.config.model import AdaptedModel
from raypref.stages.heartbeat import Heartbeat
from raypref.storage.store import Address, Store, digest

if TYPE_CHECKING:
    from raypref.training.batches import ReadTables


@dataclass(frozen=True)
class Kind:
    """A sort of stage: how it runs, and its code."""

    name: str
    version: int
    """Raise it when a change to the code changes what the stage writes: old outputs are then left alone."""
    runs: Literal["task", "worker", "here", "shards", "group"]
    """Where: in a task of one CPU; in one with what a training worker has; where it is asked for, being short; each
    shard of a table by itself; in a group of training workers."""
    body: Callable[[Chain, Stage, WorkerContext], None] | Shards
    """Publishes the stage's output; of `shards` what makes them."""


@dataclass(frozen=True)
class Shards:
    """How a stage is made shard by shard."""

    worker: Callable[[Stage], Callable[[RunConfig, dict[str, Path], Path, Path], Any]]
    """From the stage to a class: made once a process, of the config, the inputs' folders, a folder with what `first`
    wrote and the stage's own; called with a split and the number of a shard, it writes that and gives a count."""
    splits: Callable[[Stage], tuple[str, ...]]
    counted: str
    """Name of the sum of the counts among the facts."""
    first: Callable[[Chain, dict[str, Path], Path], dict[str, Any]] | None = None
    """Writes into the stage's folder what all shards need, from the inputs' folders; the facts it leaves."""
    trains: bool = False
    """Whether `first` needs what a training worker has."""
    trained: bool = False
    """Whether `worker` does, as it holds a language model."""


@dataclass(frozen=True)
class Stage:
    """One step of a run: what it is computed from."""

    of: Kind
    name: str
    """For people; not part of the hash."""
    config: Mapping[str, Any]
    """The part of the run's config that this stage reads, JSON-ready."""
    inputs: Mapping[str, Stage] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """prepare, adapt, tokenize, expert, sft, reference, align, features, try, tune, fit or evaluate."""
        return self.of.name

    @cached_property
    def address(self) -> Address:
        content = {
            "stage": self.kind,
            "version": self.of.version,
            "config": self.config,
            "inputs": {name: stage.address.key for name, stage in self.inputs.items()},
        }
        return Address(self.kind, self.name, digest(content))

    def input_paths(self, store: Store) -> dict[str, Path]:
        return {name: store.path(stage.address) for name, stage in self.inputs.items()}

    def input_addresses(self) -> dict[str, str]:
        return {name: str(stage.address) for name, stage in self.inputs.items()}


def splits_of(stage: Stage) -> tuple[str, ...]:
    """The splits that a stage's config names."""
    return tuple(stage.config["splits"])


@dataclass(frozen=True)
class Chain:
    """All stages of one run, in their order."""

    config: RunConfig
    shared: tuple[Stage, ...]
    """What the trials of a sweep have in common."""
    own: tuple[Stage, ...]
    """What a trial runs itself, in one group of workers: the last evaluates, the one before it trains."""

    def __iter__(self) -> Iterator[Stage]:
        return iter((*self.shared, *self.own))

    def ready(self, store: Store) -> Chain:
        """The chain with the folder of its adapted model, once there is one; else as it is."""
        model, made = self.config.model, next((stage for stage in self if stage.kind == "adapt"), None)
        if not isinstance(model, AdaptedModel) or made is None or not store.done(made.address):
            return self
        folder = store.path(made.address) / "model"
        return replace(self, config=self.config.model_copy(update={"model": model.at(folder)}))

    @property
    def prepare(self) -> Stage:
        return self.shared[0]

    @property
    def evaluate(self) -> Stage:
        return self.own[-1]

    @property
    def trained(self) -> Stage:
        """The stage that leaves what is evaluated; the evaluation itself where nothing is trained."""
        return self.own[0]


@dataclass(frozen=True)
class AlignedChain(Chain):
    """The chain of an aligned model, its stages by name."""

    tokenize: Stage
    expert: Stage | None
    """None where the objective reads no column of the expert's."""
    sft: Stage
    evaluate_sft: Stage
    reference: Stage | None
    """None where the objective compares with no reference."""
    align: Stage


@dataclass
class WorkerContext:
    """What a stage's worker works with: its group, its data, whom it reports to."""

    store: Store
    rank: int = 0
    world: int = 1
    stream: ReadTables | None = None
    """Reads the training table of a stream; None reads its shards from the store."""
    report: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Called on every worker alike, at each validation."""
    watch: Callable[[dict[str, Any]], None] = lambda metrics: None
    """Called on every worker after each step."""
    beat: Heartbeat = field(default_factory=Heartbeat)
    """Told of each step and batch."""
    leaving: Callable[[], bool] = lambda: False
    """Asked on every worker alike after each step: is a machine of the group about to go?"""

    def barrier(self) -> None:
        """Wait for the group's other workers."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()
