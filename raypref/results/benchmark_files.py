"""A benchmark's tables as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raypref.results.benchmark import Benchmark, comparison_cells, score_cells
from raypref.results.recommended_lists import list_cells
from raypref.results.render import Cells, escaped, html_table, latex, markdown

STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem;max-width:90rem}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.25rem .6rem;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child{"
    "text-align:left}p{color:#555}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}p{color:#aaa}}"
)


def write_benchmark(found: Benchmark, question: str, folder: Path, more: Sequence[Cells] = ()) -> list[Path]:
    """`benchmark.md`, `.tex` and `.html`, and the numbers as `scores.csv`, `tests.csv` and `published.csv`;
    where the whole catalog was ranked, `lists.csv` and `orders.csv` too.

    Args:
        more: tables that follow the benchmark's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = [*tables_of(found), *more]
    texts = {
        "benchmark.md": f"# {escaped(question)}\n\n" + "\n".join(markdown(table, 2) for table in tables),
        "benchmark.tex": "\n".join(map(latex, tables)),
        "benchmark.html": page(question, tables),
        "scores.csv": found.scores.to_csv(index=False),
        "tests.csv": found.tests.to_csv(index=False),
        "published.csv": found.published.to_csv(index=False),
    }
    if len(found.lists):
        order = [{"dataset": name, **vars(order)} for name, own in found.orders.items() for order in own]
        texts |= {
            "lists.csv": found.lists.to_csv(index=False),
            "orders.csv": pd.DataFrame(order).to_csv(index=False),
        }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def tables_of(found: Benchmark) -> list[Cells]:
    """Of each data set the scores, then the tests, then what lists of the whole catalog are worth beyond accuracy."""
    tables = []
    for dataset in dict.fromkeys(found.scores["dataset"]):
        tables += [score_cells(found, dataset), comparison_cells(found, dataset), list_cells(found.lists, dataset)]
    return [table for table in tables if table is not None]


def page(question: str, tables: Sequence[Cells]) -> str:
    """One HTML page that needs nothing else."""
    parts = [f"<h1>{html.escape(question)}</h1>"]
    for table in tables:
        notes = "<br>".join(map(html.escape, table.notes))
        parts.append(f"<h2>{html.escape(table.title)}</h2>{html_table(table)}<p>{notes}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(question)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
