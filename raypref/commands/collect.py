"""`raypref collect` and `raypref plot`: a sweep's results, gathered or drawn again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from raypref.errors import UserError


def collect(folders: tyro.conf.Positional[tuple[str, ...]], root: str | None = None, out: Path | None = None) -> int:
    """Gather results again: of one sweep, or of several also as one table with the curves they share.

    Args:
        folders: The sweeps' folders, <root>/sweeps/NAME; local, or s3://..., gs://...
        root: The root of all results; default: two levels above each folder.
        out: Where to write; default: beside each sweep, and for several the folder all of them lie in.
    """
    if not folders:
        raise UserError("no folder is given", where="raypref collect", hint="name a sweep's folder, or several")
    from raypref.results.collect import collect as collected
    from raypref.results.compare_sweeps import write_together
    from raypref.results.conclusion import tell
    from raypref.storage.location import Location

    console = Console(width=None if sys.stdout.isatty() else 160)  # a log must not cut the table
    found, well = [], True
    places = [Location.of(folder) for folder in folders]
    for place in places:
        here = place.local if out is None else (out if len(places) == 1 else out / place.name)
        if here is None:
            raise UserError("results can't be written there", where=str(place), hint="name a folder by --out")
        found.append(collected(place, root))
        well &= tell(found[-1], here, console)
    if len(places) > 1:
        together = out or places[0].parent.local
        assert together is not None  # else the loop has refused
        for path in write_together(found, together):
            console.print(f"together: {path}", highlight=False, soft_wrap=True)
    return 0 if well else 3


def plot(
    folder: tyro.conf.Positional[Path],
    out: Path | None = None,
    formats: tuple[Literal["png", "svg", "pdf"], ...] = ("png", "svg", "pdf"),
) -> int:
    """Draw figures again from the tables that a collect leaves, and from nothing else.

    A sweep's from its results.parquet, users.parquet and training.parquet; those that several sweeps share, in the
    folder where they were collected together, from its all-curves.parquet.

    Args:
        folder: Where these files lie.
        out: Where to draw; default: there.
        formats: Kinds of files.
    """
    from raypref.results.collect import RESULTS, load
    from raypref.results.compare_sweeps import SERIES, draw_together
    from raypref.results.conclusion import draw

    out, together = out or folder, (folder / SERIES).is_file()
    drawn = draw_together(folder, out, formats) if together else []
    if not together or (folder / RESULTS).is_file():
        drawn += draw(load(folder), out, formats)
    for path in drawn:
        print(path)
    if not drawn:
        print(f"there is nothing to draw in {folder}: no finished trials, or no key that several sweeps share")
    return 0
