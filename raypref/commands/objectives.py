"""`raypref objectives`: what can be minimized, with parameters, defaults and sources."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Table

from raypref.config.base import pick
from raypref.objectives import OBJECTIVES


def objectives(arguments: list[str], console: Console) -> int:
    """List all objectives, or print the named ones in full."""
    if any(a in ("-h", "--help") for a in arguments):
        console.print("usage: raypref objectives [NAME ...]\nLists the objectives, or prints the named ones in full.")
        return 0
    if not arguments:
        table = Table(title="objectives", title_justify="left")
        for heading in ("name", "what", "parameters and defaults", "reference"):
            table.add_column(heading, overflow="fold")
        for name, (_, params) in OBJECTIVES.items():
            what = (inspect.getdoc(params) or "").splitlines()[0]
            table.add_row(name, what, _defaults(params), "yes" if params.uses_reference else "no")
        console.print(table)
    for name in arguments:
        function, params = pick(name, OBJECTIVES, "objective")
        console.print(f"[bold]{name}[/]\n")
        for documented in (params, function):
            console.print(f"{inspect.getdoc(documented)}\n", markup=False, highlight=False)
        for key, field in params.model_fields.items():
            if key != "name":
                console.print(f"  {field.alias or key} = {field.default}", markup=False, highlight=False)
                console.print(f"      {field.description or ''}", markup=False, highlight=False)
    return 0


def _defaults(params: type) -> str:
    fields = params.model_fields.items()  # type: ignore[attr-defined]
    return ", ".join(f"{f.alias or key}={f.default}" for key, f in fields if key != "name")
