"""The account of a sweep, sweep.json: what it asked, of what, beside what, and by which commands."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from raypref.config import RunConfig
from raypref.config.loading import dump, override
from raypref.provenance import masked, provenance
from raypref.results.labels import symbol
from raypref.stages.chain import chain
from raypref.stages.stage import AlignedChain, Chain
from raypref.sweeps.methods import METHOD, SEEDLESS, method_changes
from raypref.sweeps.space import Range, SweepConfig, default_setting
from raypref.sweeps.trial_records import read_records


def beside(sweep: SweepConfig, base: RunConfig) -> dict[str, Chain]:
    """What the trials are set beside: the chains of recommenders by name; none on another data set's users."""
    names = sweep.beside if base.transfer is None else ()
    return {name: chain(override(base, method_changes(name, base), f"sweep {sweep.name}")) for name in names}


def account_of(sweep: SweepConfig, base: RunConfig, shared: Chain) -> dict[str, Any]:
    """All that reading a sweep's results needs to know of it, and what made it: sweep.json."""
    one_method = METHOD not in sweep.space
    return {
        "name": sweep.name,
        "question": sweep.question,
        "search": sweep.search,
        "metrics": list(sweep.metrics),
        "cost": sweep.cost,
        "space": {k: v.model_dump() if isinstance(v, Range) else list(v) for k, v in sweep.space.items()},
        "symbols": {key: symbol(key) for key in sweep.space},
        "seeds": list(range(sweep.seeds)),
        "default": default_setting(sweep, base),
        "method": base.align.objective.name if one_method else None,
        "fixed": {METHOD: list(SEEDLESS)},
        "dataset": base.data.source.kind,
        "config": dump(base),
        "sft": str(shared.evaluate_sft.address) if isinstance(shared, AlignedChain) and one_method else None,
        "beside": {name: str(run.evaluate.address) for name, run in beside(sweep, base).items()},
        "command": command(),
        "trials": sweep.trials if sweep.search != "grid" else None,
        "provenance": provenance(),
    }


def commands(folder: Path, account: dict[str, Any]) -> list[dict[str, Any]]:
    """The commands that made a sweep what it is, each with its time and git state: extending it adds one."""
    this = {"command": account["command"], **{name: account["provenance"][name] for name in ("time", "git")}}
    this |= {"trials": account["trials"]} if account.get("trials") else {}
    same = ("command", "git")
    return [old for old in earlier_commands(folder) if any(old.get(name) != this[name] for name in same)] + [this]


def earlier_commands(folder: Path) -> list[dict[str, Any]]:
    """The commands that made a sweep what it is, the last one at the end."""
    try:
        found: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text())["commands"]
    except (OSError, ValueError, KeyError, TypeError):  # there is none yet, or an account that can't be read
        return []
    return found


def command() -> str:
    return masked(shlex.join(["python", *sys.argv]))


def more_trials(folder: Path, tried: int, more: int) -> int:
    """`more` on top of those tried; where this very command was interrupted, what it was to come to then."""
    last = earlier_commands(folder)[-1:]
    interrupted = any(record["status"] == "running" for record in read_records(folder))
    if last and last[0]["command"] == command() and (tried < last[0].get("trials", 0) or interrupted):
        return int(last[0]["trials"])
    return tried + more
