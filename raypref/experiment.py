"""From a config to its chain of stages: what is planned, what is done, what is missing."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from raypref.config import RunConfig
from raypref.config.base import leaves
from raypref.config.loading import dump
from raypref.stages.stage import Chain, Stage
from raypref.storage.store import Store

DISK_PER_RUN = 200 << 20  # a tiny run writes some tens of MB; a check against a full disk, not an estimate

Making = Callable[[Stage, Store], AbstractContextManager[None]]
LONG = 200  # characters of a title that are worth a word


class Runner(Protocol):
    def __call__(self, run: Chain, stage: Stage) -> bool:
        """Run one stage; False where another process made it meanwhile."""

    def together(self, pairs: Iterable[tuple[Chain, Stage]]) -> Iterator[Stage]:
        """Run stages of which none needs another; each is given back when it is done."""


def run_chain(
    run: Chain,
    stages: Sequence[Stage],
    store: Store,
    runner: Runner,
    say: Callable[[str], None],
    making: Making = lambda stage, store: contextlib.nullcontext(),
) -> None:
    """Run a chain's stages in order, a line for each; those that are done are only named."""
    run_all([(run, stage) for stage in stages], store, runner, say, making)


def run_all(
    pairs: Iterable[tuple[Chain, Stage]],
    store: Store,
    runner: Runner,
    say: Callable[[str], None],
    making: Making = lambda stage, store: contextlib.nullcontext(),
) -> None:
    """Run stages of one chain or several, what they need first; the tries of baselines side by side.

    Args:
        say: is given a line for each stage. making: holds while a stage is made, and may tell of it.
    """
    pairs = list(pairs)
    before = {stage.address for _, stage in pairs if store.done(stage.address)}
    order: Callable[[tuple[Chain, Stage]], tuple[int, bool]] = lambda pair: (_depth(pair[1]), pair[1].kind == "try")  # noqa: E731
    for (_, tries), alike in itertools.groupby(sorted(pairs, key=order), key=order):
        missing = []
        for run, stage in alike:
            if stage.address in before:
                say(_line(stage, store, "done before"))
            elif tries:
                missing.append((run, stage))
            else:
                with making(stage, store):
                    made = runner(run, stage)
                say(_line(stage, store, None if made else "by another"))
        with making(missing[0][1], store) if missing else contextlib.nullcontext():
            for stage in runner.together(missing) if missing else ():
                say(_line(stage, store))


def _depth(stage: Stage) -> int:
    return 1 + max(map(_depth, stage.inputs.values()), default=0)


def _line(stage: Stage, store: Store, how: str | None = None) -> str:
    """What stands where, and how long it took."""
    manifest = store.manifest(stage.address)
    facts = manifest["facts"]
    seconds = facts.get("train_seconds", facts.get("evaluate_seconds", manifest["seconds"]))
    return f"{stage.kind:<9} {how or f'{seconds:.1f} s':>12}  {stage.address}{_headline(stage, facts)}"


def _headline(stage: Stage, facts: dict[str, Any]) -> str:
    if stage.kind == "prepare":
        return (
            f"  {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions; examples "
            + "/".join(f"{facts[f'{split}_examples']:,}" for split in ("train", "validation", "test"))
            + (f"; the longest title has {longest:,} characters" if (longest := facts["longest_title"]) > LONG else "")
        )
    if stage.kind in ("expert", "try", "tune", "fit"):
        ranking = facts.get("kept_back_ndcg@10")
        best = f", best of {facts['epochs']} epochs" if "epochs" in facts else ""
        return f"  {facts['interactions']:,} interactions{best}" + (
            "" if ranking is None else f" has NDCG@10 {ranking:.3f}"
        )
    if stage.kind in ("sft", "align"):
        validation = facts.get("validation", {})
        return f"  {facts['steps']} steps" + (
            f", validation loss {validation['loss']:.3f}" if "loss" in validation else ""
        )
    if stage.kind == "evaluate" and "test" in facts:
        test = facts["test"]
        generated = (
            f", generated {test['generated_hr@1']:.3f}, valid {test['valid_ratio']:.3f}"
            if "valid_ratio" in test
            else ""
        )
        exact = f" exact {test['exact_hr@1']:.3f}" if "exact_hr@1" in test else ""
        return f"  test HR@1{exact}{generated}"
    return ""


def print_plan(console: Console, run: Chain, store: Store, origins: dict[str, str], stages: Sequence[Stage]) -> None:
    """The stages with their addresses and whether each is done, and every override with its origin."""
    table = Table(title=f"stages under {store.root}", title_justify="left")
    for heading in ("stage", "address", "state"):
        table.add_column(heading, overflow="fold")
    for stage in stages:
        table.add_row(stage.kind, str(stage.address), "done" if store.done(stage.address) else "to do")
    console.print(table)
    content = dict(leaves(dump(run.config)))
    changed = Table(title="settings that differ from the defaults", title_justify="left")
    for heading in ("key", "value", "from"):
        changed.add_column(heading, overflow="fold")
    for key, origin in sorted(origins.items()):
        changed.add_row(key, str(content.get(key)), origin)
    console.print(changed)


def resources_line(config: RunConfig) -> str:
    """What one training stage of the run asks of the cluster."""
    r = config.resources
    gpus = f", {r.gpus_per_worker:g} GPU" if r.gpus_per_worker else ""
    return f"{r.workers} worker(s) of {r.cpus_per_worker:g} CPU{gpus}, engine {r.engine}" + (
        f" ZeRO-{r.zero_stage}" if r.engine == "deepspeed" else ""
    )
