"""Draws the chain of stages: `python docs/scripts/plot_stages.py` writes docs/figures/stages.svg."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from raypref.results.plotting import BLUE, GREY, save_figure

BOXES = {  # name: (x, y, what it leaves, shared by the trials of a sweep)
    "prepare": (0.0, 1.0, "examples,\ncatalog", True),
    "tokenize": (1.6, 1.0, "token ids", True),
    "sft": (3.2, 1.0, "fine-tuned\nmodel", True),
    "reference": (4.8, 0.0, "log-probs of all\ncandidates", True),
    "expert": (1.6, 2.0, "scores,\nembeddings", True),
    "align": (6.4, 1.0, "aligned\nmodel", False),
    "evaluate": (8.0, 1.0, "a row for\neach user", False),
    "collect": (9.6, 1.0, "tables, curves,\nanswer", False),
}
ARROWS = [
    ("prepare", "tokenize"),
    ("prepare", "expert"),
    ("tokenize", "sft"),
    ("sft", "reference"),
    ("sft", "align"),
    ("reference", "align"),
    ("expert", "align"),
    ("align", "evaluate"),
    ("evaluate", "collect"),
]
WIDTH, HEIGHT = 1.25, 0.62


def figure() -> Figure:
    """Boxes are stages: blue ones are computed once for all trials of a sweep, grey ones by each trial."""
    drawn = Figure(figsize=(10.5, 3.2))
    axes = drawn.subplots()
    axes.set_axis_off()
    for name, (x, y, leaves, shared) in BOXES.items():
        color = BLUE if shared else GREY
        style = {
            "boxstyle": "round,pad=0.02,rounding_size=0.08",
            "edgecolor": color,
            "facecolor": "none",
            "linewidth": 1.6,
        }
        axes.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, **style))
        axes.text(x + WIDTH / 2, y + HEIGHT - 0.13, name, ha="center", va="center", weight="bold", color=color)
        axes.text(x + WIDTH / 2, y + 0.21, leaves, ha="center", va="center", fontsize=8)
    for first, second in ARROWS:
        (x, y, *_), (to_x, to_y, *_) = BOXES[first], BOXES[second]
        arrow = {"arrowstyle": "-|>", "mutation_scale": 11, "color": GREY, "linewidth": 1.0}
        axes.add_patch(FancyArrowPatch((x + WIDTH + 0.04, y + HEIGHT / 2), (to_x - 0.04, to_y + HEIGHT / 2), **arrow))
    axes.set_xlim(-0.1, 11.0)
    axes.set_ylim(-0.1, 2.8)
    return drawn


if __name__ == "__main__":
    for path in save_figure(figure, Path(__file__).parent.parent / "figures" / "stages", ("svg",)):
        print(path)
