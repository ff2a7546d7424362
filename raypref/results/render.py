"""The comparison table as a log, Markdown and LaTeX show it: the same cells everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from raypref.results.collect import Collection
from raypref.results.labels import math_symbol
from raypref.results.tables import cells, comparison_table, footnotes

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


def rich_table(collection: Collection, split: str = "test") -> Table:
    """For a terminal or a job's log."""
    table = comparison_table(collection, split)
    header, rows = cells(collection, table)
    title = _plain(str(collection.sweep.get("question", "")))
    caption = _plain("\n".join(footnotes(collection, table, split)))
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for i, name in enumerate(header):
        shown.add_column(_plain(name), justify="left" if i < len(collection.parameters) else "right", no_wrap=True)
    for row, best in zip(rows, table["best"] if rows else []):
        shown.add_row(*map(_plain, row), style="bold" if best else None)
    return shown


def markdown(collection: Collection, split: str = "test") -> str:
    """A GitHub-flavoured table with its footnotes."""
    table = comparison_table(collection, split)
    header, rows = cells(collection, table)
    lines = [_row(map(escaped, header)), _row([":--", *["--:"] * (len(header) - 1)])]
    for row, best in zip(rows, table["best"] if rows else []):
        shown = [escaped(cell) for cell in row]
        lines.append(_row(f"**{cell}**" if best and cell else cell for cell in shown))
    return "\n".join(lines) + "\n\n" + "  \n".join(map(escaped, footnotes(collection, table, split))) + "\n"


def latex(collection: Collection, split: str = "test") -> str:
    """A booktabs table (`\\usepackage{booktabs}`)."""
    table = comparison_table(collection, split)
    header, rows = cells(collection, table)
    names = [math_symbol(name) for name in header]
    names = [name if name.startswith("$") else latex_text(name) for name in names]
    left = len(collection.parameters)
    lines = [rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}", r"\toprule", " & ".join(names) + r" \\"]
    lines.append(r"\midrule")
    for row, best in zip(rows, table["best"] if rows else []):
        escaped = [latex_text(cell) for cell in row]
        lines.append(" & ".join(rf"\textbf{{{cell}}}" if best and cell else cell for cell in escaped) + r" \\")
    notes = [f"% {note}" for note in footnotes(collection, table, split)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


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
