"""The end of every sweep: collect, draw, tabulate, answer."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from raypref.results.answer import answer
from raypref.results.collect import Collection, collect, write
from raypref.results.curves import curve_table, draw_curve
from raypref.results.rendering import latex, markdown, rich_table
from raypref.results.report import write_report
from raypref.store import write_json


def conclude(folder: Path, root: Path, console: Console) -> bool:
    """Write a sweep's results beside it and print its table and answer; did every trial end well?

    Leaves results.parquet (a row a trial and metric), users.parquet (a row a trial and user), table.md, table.tex, a
    curve of each swept parameter as PNG, SVG and PDF with its table as CSV, and report.html with all of it.
    """
    collection = collect(folder, root)
    write(collection, folder)
    failed = collection.trials[~collection.trials["status"].isin(["done", "superseded"])]
    if not collection.done.empty:
        for name, text in (("table.md", markdown(collection)), ("table.tex", latex(collection))):
            (folder / name).write_text(text)
        for curve in curves(collection):
            table = curve_table(collection, curve, _metrics(collection))
            stem = folder / f"curve-{curve.rsplit('.', 1)[-1]}"
            draw_curve(table, stem, title=str(collection.sweep.get("question", "")))
            table.to_csv(stem.with_suffix(".csv"), index=False)
        console.print(rich_table(collection))
        console.print(f"\n{answer(collection)}", highlight=False, markup=False)
        write_json(folder / "answer.json", {"answer": answer(collection)})
    for _, trial in failed.iterrows():
        lines = str(trial["error"] or "no error was recorded").strip().splitlines()
        console.print(f"{trial['label']}: {trial['status']}: {lines[-1]}", highlight=False, markup=False)
    if len(failed):
        console.print(f"{len(failed)} trial(s) did not finish; the same command tries them again", highlight=False)
    write_report(collection, folder)
    console.print(f"\nreport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return not len(failed)


def curves(collection: Collection) -> list[str]:
    """The swept parameters that a curve can be drawn over: all with two values or more."""
    return [key for key in collection.parameters if collection.done[key].nunique() > 1]


def _metrics(collection: Collection) -> tuple[str, ...]:
    generated = ("generated_hr@1", "valid_ratio") if collection.has("generated_hr@1", "test") else ()
    return (*generated, "exact_hr@1")
