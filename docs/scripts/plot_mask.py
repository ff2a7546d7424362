"""Draws docs/figures/mask.svg: which token of a packed row sees which, by the mask rule itself.

python docs/scripts/plot_mask.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from raypref.models import masks
from raypref.models.layout import Rows, TitleBatch, title_batch

FIGURE = Path(__file__).parent.parent / "figures" / "mask.svg"
COLOURS = ("#ffffff", "#9fb8d9", "#e4a97a")  # not seen, prompt, own title


def example() -> TitleBatch:
    """Two users in one row: a prompt of 6 with titles of 3, 2 and 3 inputs, a prompt of 4 with titles of 2, 2 and 1."""
    prompts = [[0] * 6, [0] * 4]
    titles = [[[0] * n for n in (4, 3, 4)], [[0] * n for n in (3, 3, 2)]]
    return title_batch(prompts, titles, 0, Rows(packed=True))


def seen(batch: TitleBatch) -> np.ndarray:
    """(L, L) 0 where a query (row) does not see a key (column), 1 in a prompt, 2 in its own title."""
    allowed = masks.dense(batch)[0, 0].numpy()
    of_titles = batch.title_begins[0] > batch.begins[0]
    return allowed * (1 + of_titles.numpy())[None, :]


def main() -> None:
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "raypref", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    batch = example()
    values = seen(batch)
    names, own = [], batch.title_begins[0].tolist()
    for place, position in enumerate(batch.positions[0].tolist()):
        document = next(number for number, span in enumerate(batch.spans) if place < span.end)
        span = batch.spans[document]
        begins = sorted(set(own[span.titles : span.end]))
        title = "p" if place < span.titles else 1 + begins.index(own[place])
        names.append(f"{'AB'[document]}{title}·{position}")
    figure, axis = plt.subplots(figsize=(5.2, 5.2))
    axis.imshow(values, cmap=ListedColormap(COLOURS), vmin=0, vmax=2)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axis.grid(which="minor", color="#dddddd", linewidth=0.5)
    axis.tick_params(which="both", length=0)
    axis.set(xlabel="key", ylabel="query")
    figure.tight_layout()
    figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
