"""`raypref verify`: are the numbers of a page of results those of the rows beside it?"""

from __future__ import annotations

from pathlib import Path

import tyro

from raypref.errors import UserError

MOST_SHOWN = 10  # faults of a section


def verify(page: tyro.conf.Positional[Path] = Path("docs/results.md"), redraw: bool = False) -> int:
    """Compute every number of a page's sections again from the rows that lie beside it; nothing is trained.

    Sections are what `--write PAGE` of jobs/replicate.py and of the sweeps writes between markers. Exit code 1 where
    a number, a word or a CSV is not what its rows say.

    Args:
        page: The page, or the folder of its rows: docs/results.
        redraw: Write text, tables and figures of all sections anew from their rows instead.
    """
    from raypref.results import docs_page

    page = page.with_suffix(".md") if page.is_dir() else page
    if redraw:
        for path in docs_page.redraw(page):
            print(path)
        return 0
    checks = docs_page.verify(page)
    if not checks:
        hint = "name the page that --write was given"
        raise UserError("no section with rows stands on this page", where=str(page), hint=hint)
    for check in checks:
        print(f"{check.section}: {check.numbers} numbers computed again, {_said(len(check.faults))}")
        for fault in check.faults[:MOST_SHOWN]:
            print(f"  {fault}")
        if len(check.faults) > MOST_SHOWN:
            print(f"  and {len(check.faults) - MOST_SHOWN} more")
    return 1 if any(check.faults for check in checks) else 0


def _said(faults: int) -> str:
    return f"{faults} lines differ" if faults else "all as printed"
