"""`raypref claims`: what is claimed of two methods, where it is printed, and which study asks it here."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from raypref.config.base import lookup


@dataclass
class Claims:
    """List the claims of the papers, and of our own results, that studies give a verdict on.

    A study is run by: python jobs/replicate.py --study NAME --dataset ml-100k
    """

    paper: str = ""
    """Only claims whose source has this text, e.g. RecPO, NAPO, "table 3", raypref."""
    study: str | None = None
    """Only claims that this study asks."""


def list_claims(options: Claims, console: Console) -> int:
    """Print the table of claims that the options ask for.

    Raises:
        UserError: there is no such study.
    """
    from raypref.results.claims import claim_table

    found = claim_table()
    if options.study is not None:
        lookup(options.study, dict.fromkeys(found["study"]), "study")
        found = found[found["study"] == options.study]
    found = found[found["source"].str.contains(options.paper, case=False, regex=False)]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in found.columns:
        table.add_column(name, overflow="fold")
    for row in found.itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)
    console.print(
        f"{len(found)} claims; verdicts: python jobs/replicate.py --study STUDY", highlight=False, markup=False
    )
    return 0
