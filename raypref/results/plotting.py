"""How every figure is styled and written: files that are the same for the same table, and SVG for a page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
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
        make().savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=_undated("svg"))
    drawn = buffer.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawn).replace(TEXT, "currentColor")
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(url\(|href=")#', rf"\1#{name}-", drawn)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)


def _undated(kind: str) -> dict[str, Any]:
    """Metadata without the time of day, so that the same table gives the same file."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
