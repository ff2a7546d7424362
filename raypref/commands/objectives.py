"""`raypref objectives`: what can be minimized, with parameters, defaults and sources."""

from __future__ import annotations

import inspect
import re
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from raypref.config.base import lookup
from raypref.config.custom_objective import Custom
from raypref.config.objectives import OBJECTIVE_CONFIGS

USAGE = "usage: raypref objectives [NAME ...]\nLists the objectives, or prints the named ones in full."
SOURCE = re.compile(r" \([^()]*\)(?=\.$)")


def objectives(arguments: list[str], console: Console) -> int:
    """List all objectives on one screen, or print the named ones in full."""
    if any(a in ("-h", "--help") for a in arguments):
        console.print(USAGE, markup=False, highlight=False)
        return 0
    if not arguments:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        sides = max(map(len, OBJECTIVE_CONFIGS)), len("reference")
        table.add_column("name", no_wrap=True, min_width=sides[0])
        table.add_column("what it minimizes", no_wrap=True, max_width=console.width - sum(sides) - 6)
        table.add_column("reference", no_wrap=True, min_width=sides[1])
        for name, params in OBJECTIVE_CONFIGS.items():
            reference = "as said" if params is Custom else "yes" if params.uses_reference else "no"
            table.add_row(name, _in_short(params), reference)
        console.print(table)
        console.print("raypref objectives NAME: equation, source, parameters with their defaults", highlight=False)
    for name in arguments:
        _in_full(name, console)
    return 0


def _in_short(params: type) -> str:
    """The first sentence of its help, without its name and its source."""
    sentence = (inspect.getdoc(params) or "").splitlines()[0]
    return SOURCE.sub("", sentence).split(": ", 1)[-1].removesuffix(".")


def _in_full(name: str, console: Console) -> None:
    params = lookup(name, OBJECTIVE_CONFIGS, "objective")
    texts = [inspect.getdoc(params)]
    if params is not Custom:
        from raypref.objectives import OBJECTIVES  # torch: not for the list

        texts.append(inspect.getdoc(OBJECTIVES[name][0]))
    console.print(f"[bold]{name}[/]\n")
    for text in texts:
        console.print(f"{text}\n", markup=False, highlight=False)
    for key, field in params.model_fields.items():
        if key not in ("name", "code"):
            console.print(f"  {field.alias or key} = {_default(field)}", markup=False, highlight=False)
            console.print(f"      {field.description or ''}", markup=False, highlight=False)


def _default(field: Any) -> Any:
    return field.get_default(call_default_factory=True)
