"""A study's or sweep's part of docs/results.md, between its markers: made of the rows that lie beside the page.

So it can be drawn again (`redraw`) and each of its numbers checked (`verify`) where nothing was trained.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from raypref.errors import UserError
from raypref.results.answer import answer, caveats
from raypref.results.benchmark import benchmark
from raypref.results.benchmark_files import tables_of
from raypref.results.collect import Collection
from raypref.results.contrasts import HEADLINE, MISSING, Contrast, contrast_cells, contrast_table
from raypref.results.figures import drawings
from raypref.results.labels import metric_label, rows_of
from raypref.results.page_rows import load_rows, save_rows
from raypref.results.plotting import BLUE, GREY, save_figure
from raypref.results.render import markdown
from raypref.results.tables import sweep_cells
from raypref.results.tuned import read_tried, tuning_cells, tuning_figure, tuning_table

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
RELATIVE = 1e-9
NONE_YET = "No study has been run yet.\n"
PLACES = ("--root", "--write", "--data.source.path", "--storage")
"""Options that say where, not what: left out of the command that a page prints."""


def write_section(
    page: Path, section: str, collection: Collection, label: str, reference: str, contrasts: Sequence[Contrast]
) -> list[Path]:
    """Write a study's section of a page, and beside it `results/SECTION.parquet`, `-claims.csv` and `.svg`.

    Args:
        label: the data set, as its table is called.
        reference: the method that others are tested against.
        contrasts: the claims that get a verdict.

    Raises:
        UserError: there is no such page, or one marker lacks its other half.
    """
    asked = {"label": label, "reference": reference, "claims": [claim.model_dump(mode="json") for claim in contrasts]}
    return _write(page, section, collection, {"study": asked})


def write_sweep_section(page: Path, section: str, collection: Collection) -> list[Path]:
    """Write a sweep's section of a page: its answer, its figures, its table; the rows as Parquet and the figures, with
    what they show as CSV, beside it.

    Raises:
        UserError: as `write_section`.
    """
    return _write(page, section, collection, {})


def redraw(page: Path) -> list[Path]:
    """Write all sections of a page again, with their figures, from the rows beside it and from nothing else.

    Raises:
        UserError: the page or a section's rows can't be read.
    """
    return [path for section in sections(page) for path in _redraw(page, section)]


def sections(page: Path) -> list[str]:
    """The sections of a page that are between markers and have rows."""
    text, _ = _read(page, "")
    marked = dict.fromkeys(re.findall("^<!-- (.+) -->$", text, re.MULTILINE))
    return [section for section in marked if "Rows: [" in _laid(page, section)]


@dataclass(frozen=True)
class Check:
    """What a look at one section found."""

    section: str
    numbers: int
    """Numbers of the page and of the tables beside it that were computed again."""
    faults: list[str]
    """Where they differ from what is computed."""


def verify(page: Path) -> list[Check]:
    """Compute each number of a page's sections again from the rows beside it.

    A section counts as altered where its text, or a CSV beside it, is not what `redraw` writes, numbers to 1e-9.

    Raises:
        UserError: the page or a section's rows can't be read.
    """
    found = []
    for section in sections(page):
        made = _section(section, *load_rows(_stem(page, section)), _stem(page, section).name)
        printed, expected = _laid(page, section).splitlines(), made.text(section).splitlines()
        faults = [f"{page.name}: {fault}" for fault in _differences(printed, expected)]
        numbers = sum(len(NUMBER.findall(line)) for line in expected)
        for name, table in made.tables.items():
            path = _stem(page, section).with_name(name)
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            again = table.to_csv(index=False).splitlines()
            faults += [f"{name}: {fault}" for fault in _differences(lines, again)]
            numbers += sum(len(NUMBER.findall(line)) for line in again)
        found.append(Check(section, numbers, faults))
    return found


def _differences(printed: Sequence[str], expected: Sequence[str]) -> list[str]:
    pairs = itertools.zip_longest(printed, expected, fillvalue="nothing")
    return [f"line {n}: {a!r}, computed {b!r}" for n, (a, b) in enumerate(pairs, 1) if not _alike(a, b)]


def _alike(printed: str, computed: str) -> bool:
    """The same words, and numbers that are the same but for the order of sums, which a machine's cores decide."""
    if printed == computed:
        return True
    words = (NUMBER.split(text) for text in (printed, computed))
    numbers = (map(float, NUMBER.findall(text)) for text in (printed, computed))
    return operator.eq(*words) and all(math.isclose(a, b, rel_tol=RELATIVE) for a, b in zip(*numbers))


@dataclass(frozen=True)
class _Section:
    parts: list[str]
    figures: dict[str, Callable[[], Figure]]
    """By the name of their file, without its ending."""
    tables: dict[str, pd.DataFrame]
    """By the name of their CSV."""

    def text(self, section: str) -> str:
        mark = f"<!-- {section} -->"
        return f"{mark}\n" + "\n\n".join(self.parts) + f"\n{mark}"


def _write(page: Path, section: str, collection: Collection, told: dict[str, Any]) -> list[Path]:
    stem = _stem(page, section)
    rows = save_rows(collection, stem, told | {"account": _account(collection)})
    return [page, *rows, *(path for path in _redraw(page, section) if path != page)]


def _redraw(page: Path, section: str) -> list[Path]:
    stem, written = _stem(page, section), [page]
    made = _section(section, *load_rows(stem), stem.name)
    for name, figure in made.figures.items():
        written += save_figure(figure, stem.with_name(name), ("svg",))
    for name, table in made.tables.items():
        written.append(stem.with_name(name))
        table.to_csv(written[-1], index=False)
    _lay(page, section, made.text(section))
    return written


def _section(section: str, collection: Collection, told: dict[str, Any], name: str) -> _Section:
    """A section from its rows; `name` is what its files begin with."""
    parts = [str(collection.sweep["question"]), told["account"]]
    rows = f"Rows: [results/{name}.parquet](results/{name}.parquet)"
    figures: dict[str, Callable[[], Figure]] = {}
    if (asked := told.get("study")) is not None:
        claims = contrast_table(collection, [Contrast(**claim) for claim in asked["claims"]])
        found = benchmark({asked["label"]: collection}, asked["reference"])
        if len(_drawn_rows(claims)):
            figures[name] = lambda: claims_figure(claims)
            parts.append(f"![The papers' gains and ours](results/{name}.svg)")
        parts += [
            markdown(table, 3).rstrip() for table in (*tables_of(found)[:1], contrast_cells(claims, asked["label"]))
        ]
        tables = {f"{name}-claims.csv": claims}
        if tried := read_tried(collection.sweep):
            parts += ["What tuning tried and chose:", markdown(tuning_cells(tried)).rstrip()]
            parts.append(f"![Validation over the learning rate, method by method](results/{name}-tuning.svg)")
            figures[f"{name}-tuning"] = lambda: tuning_figure(tried)
            tables[f"{name}-tuning.csv"] = tuning_table(tried)
        parts.append(f"{rows}; claims: [{name}-claims.csv](results/{name}-claims.csv).")
        return _Section([f"## {section[0].upper()}{section[1:]}", *parts], figures, tables)
    parts += [answer(collection), *filter(None, ["\n".join(f"- {line}" for line in caveats(collection))])]
    asks_cost, tables = bool(collection.sweep.get("cost")), {}
    for drawing in (d for d in drawings(collection) if asks_cost or not d.name.startswith("cost-")):
        own = f"{name}-{drawing.name}"
        figures[own] = functools.partial(drawing.make, drawing.table, "")
        tables[f"{own}.csv"] = drawing.table
        parts.append(f"![{drawing.describe(drawing.table)}](results/{own}.svg)")
    parts += [markdown(sweep_cells(collection)).rstrip(), f"{rows}."]
    heading = re.sub(r"^(\S+)", r"`\1`", section)
    return _Section([f"## {heading}", *parts], figures, tables)


def _stem(page: Path, section: str) -> Path:
    """Where what belongs to a section lies, without its ending; the page and its markers are looked at."""
    _read(page, section)
    return page.parent / "results" / re.sub(r"[^a-z0-9]+", "-", section.lower()).strip("-")


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


def _laid(page: Path, section: str) -> str:
    """A section as the page has it, between its markers and with them."""
    text, mark = _read(page, section)
    return mark.join(["", text.split(mark)[1], ""]) if mark in text else ""


def _lay(page: Path, section: str, written: str) -> None:
    """A section in its place, a new one at the page's end."""
    text, mark = _read(page, section)
    if mark in text:
        text = re.sub(f"{re.escape(mark)}.*{re.escape(mark)}", lambda _: written, text, flags=re.DOTALL)
    else:
        text = f"{text.replace(NONE_YET, '').rstrip()}\n\n{written}\n"
    page.write_text(text, encoding="utf-8")


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
