"""Draws docs/figures/objectives/*.svg: the loss of one example against its reward gap, for each objective.

python docs/scripts/plot_objectives.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
import torch

from raypref.objectives import OBJECTIVES, PreferenceBatch

SWEPT: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dpo": ("beta", (0.1, 0.5, 1.0, 3.0)),
    "ipo": ("tau", (0.05, 0.1, 0.25)),
    "cpo": ("beta", (0.1, 0.5, 1.0)),
    "simpo": ("gamma0", (0.0, 1.0, 2.0)),
    "rosepo": ("epsilon", (0.0, 0.1, 0.3)),
    "dmpo": ("beta", (0.1, 0.5, 1.0)),
    "sdpo": ("beta", (0.1, 0.5, 1.0, 3.0)),
    "sims-dpo": ("beta", (0.1, 0.5, 1.0)),
    "recpo": ("lambda", (0.0, 1.0, 2.0, 3.0)),
    "napo": ("gamma0", (0.0, 1.0, 2.0)),
    "eapo": ("u_beta", (0.3, 0.75, 1.5)),
    "ea-sdpo": ("u_beta", (0.3, 0.75, 1.5)),
    "ea-ipo": ("u_beta", (0.3, 0.75, 1.5)),
    "ea-cpo": ("u_beta", (0.3, 0.75, 1.5)),
    "alpha-dpo": ("alpha", (0.0, 0.5, 2.0)),
    "beta-dpo": ("a", (0.0, 0.6, 2.0)),
    "mppo": ("beta", (1.0, 3.0, 10.0)),
    "dynamicpo": ("beta", (0.1, 0.5, 1.0)),
    "list-pg": ("temperature", (0.5, 1.0, 2.0)),
}
"""The hyper-parameter that each plot varies, and its values."""
FIXED: dict[str, dict[str, Any]] = {"napo": {"share_negatives": False}, "beta-dpo": {"filter_share": 0.0}}
"""What stands in the way of a plot of one example: other users, chance."""
K = 3


def sweep_of_gaps() -> PreferenceBatch:
    """One example for each gap `h_p - h_k` from -6 to 10; its K = 3 negatives are alike, titles have one token.

    The preferred title is rated 5 and comes next; the negatives are random ones. The expert finds them middling.
    """
    gaps = torch.linspace(-6, 10, 65, dtype=torch.float64)
    b = len(gaps)

    def pairs(value: float) -> torch.Tensor:
        return torch.full((b, K), value, dtype=torch.float64)

    one = torch.ones(b, dtype=torch.float64)
    return PreferenceBatch(
        policy_logps_pos=-2 * one,
        policy_logps_neg=(-2 - gaps)[:, None].expand(b, K),
        ref_logps_pos=-2 * one,
        ref_logps_neg=pairs(-2),
        tokens_pos=one,
        tokens_neg=pairs(1),
        columns={
            "rating_pos": 5 * one,
            "latency_pos": one,
            "rating_neg": pairs(torch.nan),
            "latency_neg": pairs(torch.nan),
            "expert_score_neg": pairs(0.5),
            "expert_score_all_neg": torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(b, 2),
            "expert_confidence_neg": pairs(0.5),
        },
    )


def loss_table() -> pd.DataFrame:
    """Columns `objective`, `parameter`, `value`, `gap`, `loss`: what the figures show.

    beta-DPO starts from a running mean of 0; the batch is the whole sweep, whose mean gap is 2. alpha-DPO standardises
    over that same sweep.
    """
    batch = sweep_of_gaps()
    gaps = batch.policy_logps_pos - batch.policy_logps_neg[:, 0]
    parts = []
    for name, (parameter, values) in SWEPT.items():
        function, cls = OBJECTIVES[name]
        for value in values:
            state = {"M0": torch.zeros((), dtype=torch.float64)} if name == "beta-dpo" else {}
            losses = function(batch, cls(**FIXED.get(name, {}), **{parameter: value}), state).losses
            found = {"objective": name, "parameter": parameter, "value": value, "gap": gaps, "loss": losses}
            parts.append(pd.DataFrame(found))
    return pd.concat(parts, ignore_index=True)


def draw(table: pd.DataFrame, folder: Path) -> list[Path]:
    """One SVG for each objective of the table."""
    # text stays text and ids do not change from run to run, so that the files are small and their diffs mean something
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "raypref", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in table.groupby("objective", sort=False):
        figure, axes = plt.subplots(figsize=(3.6, 2.4), layout="constrained")
        parameter = rows["parameter"].iloc[0]
        for value, curve in rows.groupby("value"):
            axes.plot(curve["gap"], curve["loss"], label=f"{parameter} = {value:g}")
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.set(xlabel="reward gap before beta, nats", ylabel="loss", title=name)
        axes.legend(frameon=False, fontsize=8)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--out", type=Path, default=here / "figures" / "objectives", help="folder of the figures")
    for path in draw(loss_table(), parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
