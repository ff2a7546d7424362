"""How every figure is styled and written: files that are the same for the same table, and SVG for a page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, GREEN, GREY, TEXT = "#2f6db5", "#2e8b57", "#8a8a8a", "#1f2328"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "none",
    "svg.hashsalt": "raypref",
}


def side_by_side(
    metrics: Sequence[str], panel: Callable[[Axes, str], None], title: str = "", height: float = 3.5, columns: int = 4
) -> Figure:
    """A figure with a panel for each metric, drawn by `panel`, and one legend below; `columns` of it."""
    figure = Figure(figsize=(4.3 * len(metrics), height), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics):
        panel(ax, metric)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def save_figure(
    make: Callable[[], Figure], path_stem: Path, formats: Sequence[str] = ("png", "svg", "pdf"), dpi: int = 160
) -> list[Path]:
    """Draw a figure as `<path_stem>.png`, `.svg` and so on."""
    path_stem = Path(path_stem)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [path_stem.with_name(f"{path_stem.name}.{kind}") for kind in formats]
    with mpl.rc_context(STYLE):
        figure = make()
        for path, kind in zip(paths, formats):
            figure.savefig(path, format=kind, dpi=dpi, bbox_inches="tight", metadata=_undated(kind))
    return paths


def figure_svg(make: Callable[[], Figure], alt: str, name: str) -> str:
    """A figure as an `<svg>` element for a page: transparent, its text in the page's colour, with an alt text.

    Args:
        name: sets its ids apart from those of the page's other figures.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = make()
        values = _name_points(figure)
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=_undated("svg"))
    drawn = buffer.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawn).replace(TEXT, "currentColor")
    drawn = _with_values(drawn, values)
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(url\(|href=")#', rf"\1#{name}-", drawn)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)


def _name_points(figure: Figure) -> dict[str, list[str]]:
    """Give each line that has markers an id in the SVG; what its points say, by that id."""
    found = {}
    for i, ax in enumerate(figure.axes):
        ticks = dict(zip(ax.get_xticks().tolist(), (label.get_text() for label in ax.get_xticklabels())))
        for j, line in enumerate(ax.get_lines()):
            points = np.column_stack([np.asarray(a, float) for a in (line.get_xdata(), line.get_ydata())])
            points = points[np.isfinite(points).all(axis=1)]
            if line.get_marker() in ("None", "", None) or not len(points) or line.get_transform() != ax.transData:
                continue
            name = f"values-{i}-{j}"
            line.set_gid(name)
            label = "" if str(line.get_label()).startswith("_") else f"{line.get_label()}: "
            found[name] = [
                f"{label}{ax.get_xlabel()} {ticks.get(x) or f'{x:g}'}, {ax.get_ylabel()} {y:.4g}" for x, y in points
            ]
    return found


def _with_values(drawn: str, values: dict[str, list[str]]) -> str:
    """The SVG with each marker's value as its title, which a browser shows when one points at it."""
    for name, texts in values.items():
        start = drawn.find(f'<g id="{name}">')
        end = drawn.find('<g id="', start + 1)
        group = drawn[start : end if end > 0 else len(drawn)]
        uses = re.findall(r"<use [^>]*/>", group)
        if start < 0 or len(uses) != len(texts):  # points outside the axes are not drawn
            continue
        for use, text in zip(uses, texts):
            titled = f'{use[:-2]} class="point"><title>{html.escape(text.replace("$", ""))}</title></use>'
            group = group.replace(use, titled, 1)
        drawn = drawn[:start] + group + drawn[end if end > 0 else len(drawn) :]
    return drawn


def _undated(kind: str) -> dict[str, Any]:
    """Metadata without the time of day, so that the same table gives the same file."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
