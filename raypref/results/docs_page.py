"""A study's or sweep's part of docs/results.md, written anew between its markers, the rows behind it beside it."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from raypref.errors import UserError
from raypref.results.answer import answer, caveats
from raypref.results.collect import Collection
from raypref.results.contrasts import HEADLINE, MISSING
from raypref.results.figures import drawings
from raypref.results.labels import metric_label, rows_of
from raypref.results.plotting import BLUE, GREY, save_figure
from raypref.results.render import Cells, markdown
from raypref.results.tables import sweep_cells

NONE_YET = "No study has been run yet.\n"
PLACES = ("--root", "--write", "--data.source.path", "--storage")
"""Options that say where, not what: left out of the command that a page prints."""


def write_section(
    page: Path, section: str, question: str, collection: Collection, claims: pd.DataFrame, tables: Sequence[Cells]
) -> list[Path]:
    """Write a study's section of a page, and beside it `results/SECTION.parquet`, `-claims.csv` and `.svg`.

    Raises:
        UserError: there is no such page, or one marker lacks its other half.
    """
    stem = _stem(page, section)
    rows, listed = stem.with_suffix(".parquet"), stem.with_name(f"{stem.name}-claims.csv")
    pq.write_table(slim_rows(collection), rows, compression="zstd")
    claims.to_csv(listed, index=False)
    figures = save_figure(lambda: claims_figure(claims), stem, ("svg",)) if _drawn(claims) else []
    parts = [question, _account(collection)]
    parts += [f"![The papers' gains and ours](results/{figure.name})" for figure in figures]
    parts += [markdown(table, 3).rstrip() for table in tables]
    parts.append(f"Rows: [results/{rows.name}](results/{rows.name}); claims: [{listed.name}](results/{listed.name}).")
    _lay(page, section, [f"## {section[0].upper()}{section[1:]}", *parts])
    return [page, rows, listed, *figures]


def write_sweep_section(page: Path, section: str, collection: Collection) -> list[Path]:
    """Write a sweep's section of a page: its answer, its figures, its table; the rows as Parquet and the figures, with
    what they show as CSV, beside it.

    Raises:
        UserError: as `write_section`.
    """
    stem = _stem(page, section)
    rows = stem.with_suffix(".parquet")
    pq.write_table(slim_rows(collection), rows, compression="zstd")
    parts, written = [str(collection.sweep["question"]), _account(collection), answer(collection)], [page, rows]
    parts += filter(None, ["\n".join(f"- {line}" for line in caveats(collection))])
    asks_cost = bool(collection.sweep.get("cost"))
    for drawing in (d for d in drawings(collection) if asks_cost or not d.name.startswith("cost-")):
        named = dataclasses.replace(drawing, name=f"{stem.name}-{drawing.name}")
        written += named.save(stem.parent, "", ("svg",))
        parts.append(f"![{drawing.describe(drawing.table)}](results/{named.name}.svg)")
    parts += [markdown(sweep_cells(collection)).rstrip(), f"Rows: [results/{rows.name}](results/{rows.name})."]
    heading = re.sub(r"^(\S+)", r"`\1`", section)
    _lay(page, section, [f"## {heading}", *parts])
    return written


def _stem(page: Path, section: str) -> Path:
    """Where what belongs to a section lies, without its ending; the page and its markers are looked at."""
    _read(page, section)
    stem = page.parent / "results" / re.sub(r"[^a-z0-9]+", "-", section.lower()).strip("-")
    stem.parent.mkdir(exist_ok=True)
    return stem


def _read(page: Path, section: str) -> tuple[str, str]:
    """A page's text and a section's marker, which stands before and after it, or nowhere yet."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"the page can't be read: {error.strerror}", where=str(page), hint="check --write") from error
    mark = f"<!-- {section} -->"
    if text.count(mark) not in (0, 2):
        raise UserError(f"{mark} must stand before and after the section", where=str(page), hint="correct the markers")
    return text, mark


def _lay(page: Path, section: str, parts: Sequence[str]) -> None:
    """A section in its place, a new one at the page's end."""
    text, mark = _read(page, section)
    written = f"{mark}\n" + "\n\n".join(parts) + f"\n{mark}"
    if mark in text:
        text = re.sub(f"{re.escape(mark)}.*{re.escape(mark)}", lambda _: written, text, flags=re.DOTALL)
    else:
        text = f"{text.replace(NONE_YET, '').rstrip()}\n\n{written}\n"
    page.write_text(text, encoding="utf-8")


def slim_rows(collection: Collection) -> pa.Table:
    """A row a trial and reported example: what is swept, seed, split, example, user and each metric's value (float32).

    The validation split is left out where there is a test split. Without metadata: that of a sweep names local folders.
    """
    reported = {collection.reported, *(s for s in collection.metrics["split"].unique() if s != "validation")}
    metrics = [name for name in collection.users.column_names if name in set(collection.metrics["metric"])]
    frame = collection.users.select(["trial", "split", "example", "user", *metrics]).to_pandas()
    swept = list(collection.parameters)
    described = collection.done[["trial", *swept, "seed"]].astype({"seed": "int16"})
    frame = described.merge(frame[frame["split"].isin(reported)].astype({"trial": "object"}), on="trial")
    frame = frame.drop(columns="trial").sort_values([*swept, "seed", "split", "example"], kind="stable")
    named = [name for name in (*swept, "split") if not is_numeric_dtype(frame[name])]
    frame = frame.astype(dict.fromkeys(named, "category"))
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def claims_figure(claims: pd.DataFrame) -> Figure:
    """Our relative gain and its 95 % interval, claim by claim, over the range that the papers print (grey).

    The axis ends where ours do, at +100 % or beyond; an arrow stands where a paper's range goes on.
    """
    drawn = rows_of(_drawn_rows(claims))
    figure = Figure(figsize=(8, 0.32 * len(drawn) + 1.1))
    axes = figure.subplots()
    end = max(1.0, *(row["gain_high"] for row in drawn)) * 1.05
    axes.set_xlim(min(-0.3, *(row["gain_low"] for row in drawn)) * 1.05, end)
    for place, row in enumerate(reversed(drawn)):
        if row["paper_low"] == row["paper_low"]:
            high = min(row["paper_high"], end * 0.98)
            axes.plot([min(row["paper_low"], high), high], [place, place], color=GREY, linewidth=7, alpha=0.4,
                      solid_capstyle="round")  # fmt: skip
            if row["paper_high"] > high:
                axes.plot([end * 0.98], [place], marker=">", color=GREY, markersize=7, clip_on=False)
        error = [[row["gain"] - row["gain_low"]], [row["gain_high"] - row["gain"]]]
        axes.errorbar([row["gain"]], [place], xerr=error, fmt="o", color=BLUE, capsize=2, markersize=4)
    labels = []
    for row in reversed(drawn):
        measure = "" if row["metric"] == HEADLINE else f", {metric_label(row['metric'])}"
        labels.append(f"{row['claim']}{measure}  ({row['source'].split(',')[0]})")
    axes.set_yticks(np.arange(len(drawn)), labels)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.0%}")
    axes.set_xlabel(
        "relative gain of the first over the second (blue: ours, 95 %; grey: the paper's range, arrow: on from there)"
    )
    return figure


def _drawn_rows(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims of a paper's own measure that have a finite interval."""
    measured = claims[(claims["verdict"] != MISSING) & np.isfinite(claims["gain_low"].astype(float))]
    doubled = bool((claims["metric"] == HEADLINE).any())
    return measured[measured["metric"] != "exact_hr@1"] if doubled else measured


def _drawn(claims: pd.DataFrame) -> bool:
    return len(_drawn_rows(claims)) > 0


def _account(collection: Collection) -> str:
    """The command, what it took and on what machine."""
    made: dict[str, Any] = collection.sweep.get("provenance", {})
    versions = ", ".join(f"{k} {v}" for k, v in made.get("versions", {}).items() if k in ("torch", "transformers"))
    spent = collection.done[["train_seconds", "evaluate_seconds"]].sum().sum() / 3600
    git = str(made.get("git"))[:12]
    needs = "time" if collection.sweep.get("dataset") == "generated" else "data"  # what a page's tests leave out
    return (
        f"    {command()}   # needs: {needs}\n\n"
        f"{len(collection.done)} trials, {spent:.1f} hours of training and evaluation added up (shared stages not "
        f"counted), {made.get('machine', 'machine not known')}, Python {made.get('python')}, {versions}, commit {git}."
    )


def command(arguments: Sequence[str] | None = None) -> str:
    """The command line without its places, as anyone would type it."""
    kept, skip = [], False
    for argument in sys.argv[1:] if arguments is None else arguments:
        name, given, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in PLACES:
            skip = not given
        else:
            kept.append(argument)
    return " ".join(["python", f"jobs/{os.path.basename(sys.argv[0])}", *kept])
