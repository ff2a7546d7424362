"""A benchmark's tables as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from raypref.results.benchmark import Benchmark, Cells, comparison_cells, score_cells
from raypref.results.render import escaped, latex_text

STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem;max-width:90rem}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.25rem .6rem;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child{"
    "text-align:left}p{color:#555}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}p{color:#aaa}}"
)


def write_benchmark(found: Benchmark, question: str, folder: Path, more: Sequence[Cells] = ()) -> list[Path]:
    """`benchmark.md`, `.tex` and `.html`, and the numbers as `scores.csv`, `tests.csv` and `published.csv`.

    Args:
        more: tables that follow the benchmark's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = [*tables_of(found), *more]
    texts = {
        "benchmark.md": f"# {escaped(question)}\n\n" + "\n".join(map(markdown, tables)),
        "benchmark.tex": "\n".join(map(latex, tables)),
        "benchmark.html": page(question, tables),
        "scores.csv": found.scores.to_csv(index=False),
        "tests.csv": found.tests.to_csv(index=False),
        "published.csv": found.published.to_csv(index=False),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def tables_of(found: Benchmark) -> list[Cells]:
    """Of each data set the scores, then the tests."""
    tables = []
    for dataset in dict.fromkeys(found.scores["dataset"]):
        tables += [score_cells(found, dataset), comparison_cells(found, dataset)]
    return [table for table in tables if table is not None]


def rich_table(table: Cells) -> Table:
    """For a terminal or a job's log."""
    plain = lambda text: text.replace("[", "\\[")  # noqa: E731
    shown = Table(
        title=table.title, caption=plain("\n".join(table.notes)), title_justify="left", caption_justify="left"
    )
    for i, name in enumerate(table.header):
        shown.add_column(plain(name), justify="right" if i else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(f"[bold]{plain(text)}[/]" if bold else plain(text) for text, bold in row))
    return shown


def markdown(table: Cells) -> str:
    lines = [f"## {escaped(table.title)}", "", _row(map(escaped, table.header))]
    lines.append(_row([":--", *["--:"] * (len(table.header) - 1)]))
    lines += [_row(f"**{escaped(t)}**" if bold else escaped(t) for t, bold in row) for row in table.rows]
    return "\n".join([*lines, "", "  \n".join(map(escaped, table.notes)), ""])


def latex(table: Cells) -> str:
    """A booktabs table (`\\usepackage{booktabs}`)."""
    lines = [f"% {table.title}", rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    lines += [" & ".join(map(latex_text, table.header)) + r" \\", r"\midrule"]
    for row in table.rows:
        texts = [rf"\textbf{{{latex_text(text)}}}" if bold else latex_text(text) for text, bold in row]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in table.notes)]) + "\n"


def page(question: str, tables: Sequence[Cells]) -> str:
    """One HTML page that needs nothing else."""
    parts = [f"<h1>{html.escape(question)}</h1>"]
    for table in tables:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
        body = "".join(f"<tr>{''.join(_cell(*cell) for cell in row)}</tr>" for row in table.rows)
        notes = "<br>".join(map(html.escape, table.notes))
        parts.append(f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{body}</table><p>{notes}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(question)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _cell(text: str, bold: bool) -> str:
    shown = html.escape(text)
    return f"<td>{f'<b>{shown}</b>' if bold else shown}</td>"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
