"""The end of every sweep: collect, draw, tabulate, answer."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from raypref.provenance import SUBMITTED
from raypref.results.answer import answer, caveats
from raypref.results.collect import Collection, collect, write
from raypref.results.earlier import keep_spread
from raypref.results.figures import FORMATS, Drawing, drawings
from raypref.results.places import places_said
from raypref.results.records import reason
from raypref.results.render import latex, markdown, rich_table
from raypref.results.report import write_report
from raypref.results.tables import sweep_cells
from raypref.results.training_curves import SHOWN, training_alt, training_figure, training_table, write_training
from raypref.storage.location import Location
from raypref.storage.store import write_json


def conclude(
    folder: Path | str | Location, root: Path | str | Location | None, console: Console, out: Path | None = None
) -> bool:
    """Write a sweep's results beside it, or in `out`, print its table and answer; did every trial end well?

    Leaves results.parquet (a row a trial and metric), users.parquet (a row a trial and user), training.parquet (thinned
    training curves), table.md, table.tex, every figure as PNG, SVG and PDF with its table as CSV, and report.html with
    all of it.
    """
    return tell(collect(folder, root), out or Path(str(folder)), console)


def tell(collection: Collection, out: Path, console: Console) -> bool:
    """The same for what is collected already."""
    out.mkdir(parents=True, exist_ok=True)
    write(collection, out)
    write_training(collection, out)
    unfinished = collection.trials[~collection.trials["status"].isin(["done", "superseded", "pruned"])]
    if not collection.done.empty:
        table = sweep_cells(collection)
        for name, text in (("table.md", markdown(table)), ("table.tex", latex(table))):
            (out / name).write_text(text)
        draw(collection, out)
        _print_table(collection, console)
        said = answer(collection)
        console.print(f"\n{said}", highlight=False, markup=False)
        acting = [*caveats(collection), *filter(None, [places_said(collection)])]
        for line in acting:
            console.print(line, highlight=False, markup=False)
        write_json(out / "answer.json", {"answer": said, "diagnosis": acting})
        keep_spread(collection, out)
    for _, trial in unfinished.iterrows():
        console.print(f"{trial['label']}: {trial['status']}: {reason(trial['error'])}", highlight=False, markup=False)
    if len(unfinished):
        console.print(f"{len(unfinished)} trial(s) did not finish; the same command tries them again", highlight=False)
    write_report(collection, out)
    console.print(f"\nreport: {out / 'report.html'}", highlight=False, soft_wrap=True)
    return not len(unfinished)


def _print_table(collection: Collection, console: Console) -> None:
    """The comparison table; in a submitted job with spaces that Ray's log page, being HTML, does not run together."""
    if SUBMITTED not in os.environ:
        console.print(rich_table(sweep_cells(collection)))
        return
    with console.capture() as capture:
        console.print(rich_table(sweep_cells(collection)))
    console.file.write(capture.get().replace(" ", "\u00a0"))


def draw(collection: Collection, out: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """All figures of a collection, from its tables alone."""
    title = str(collection.sweep.get("question", ""))
    made, training = drawings(collection), training_table(collection)
    training = training[training["metric"].isin(SHOWN)]
    if len(training):
        made.append(Drawing("training", "Training", training, training_figure, training_alt))
    return [path for drawing in made for path in drawing.save(out, title, formats)]
