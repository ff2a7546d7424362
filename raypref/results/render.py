"""A table of text as a terminal, Markdown, LaTeX and HTML show it: the same cells everywhere."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from raypref.results.labels import math_symbol

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_LATEX |= {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ᵘ": r"\textsuperscript{u}",
    "±": r"$\pm$",
    "<": r"$<$",
    "*": r"\textsuperscript{*}",
}
_MARKDOWN = {c: "\\" + c for c in "\\`*_<>|#"}


@dataclass(frozen=True)
class Cells:
    """A table as text, the same for every format."""

    title: str
    header: list[str]
    rows: list[list[tuple[str, bool]]]
    """Text of each cell, and whether it is bold."""
    notes: list[str]
    names: int = 1
    """How many columns, from the left, name a row; they are set flush left."""


def rich_table(table: Cells) -> Table:
    """For a terminal or a job's log."""
    shown = Table(
        title=_plain(table.title), caption=_plain("\n".join(table.notes)), title_justify="left", caption_justify="left"
    )
    for i, name in enumerate(table.header):
        shown.add_column(_plain(name), justify="left" if i < table.names else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(f"[bold]{_plain(text)}[/]" if bold and text else _plain(text) for text, bold in row))
    return shown


def markdown(table: Cells, level: int = 0) -> str:
    """A GitHub-flavoured table with its footnotes, under a heading of `level` (0: none)."""
    lines = [f"{'#' * level} {escaped(table.title)}", ""] if level else []
    lines += [_row(map(escaped, table.header)), _row([":--", *["--:"] * (len(table.header) - 1)])]
    lines += [_row(f"**{escaped(t)}**" if bold and t else escaped(t) for t, bold in row) for row in table.rows]
    return "\n".join([*lines, "", "  \n".join(map(escaped, table.notes)), ""])


def latex(table: Cells) -> str:
    """A booktabs table (`\\usepackage{booktabs}`)."""
    names = [math_symbol(name) for name in table.header]
    names = [name if name.startswith("$") else latex_text(name) for name in names]
    columns = "l" * table.names + "r" * (len(names) - table.names)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(names) + r" \\", r"\midrule"]
    for row in table.rows:
        texts = [rf"\textbf{{{latex_text(text)}}}" if bold and text else latex_text(text) for text, bold in row]
        lines.append(" & ".join(texts) + r" \\")
    notes = [f"% {' '.join(note.split())}" for note in (table.title, *table.notes)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def html_table(table: Cells, id: str = "") -> str:
    """The table alone, without title and notes."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.header)
    body = "\n".join(f"<tr>{''.join(_cell(*cell) for cell in row)}</tr>" for row in table.rows)
    named = f' id="{html.escape(id)}"' if id else ""
    return f"<table{named}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(text: str, bold: bool) -> str:
    shown = html.escape(text)
    return f"<td>{f'<b>{shown}</b>' if bold else shown}</td>"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Square brackets of an interval are no markup of rich's."""
    return text.replace("[", "\\[")


def escaped(text: str) -> str:
    """Text as Markdown shows it, letter by letter."""
    return "".join(_MARKDOWN.get(c, c) for c in text)


def latex_text(text: str) -> str:
    """Text as LaTeX sets it, letter by letter."""
    return "".join(_LATEX.get(c, c) for c in text)
