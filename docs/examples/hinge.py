"""An objective of one's own: a hinge on the reward gap, averaged over negatives (SLiC-HF, Zhao et al. 2023)."""

from raypref import ObjectiveOutput, log_ratios


def loss(batch, params, state):
    """`mean_k max(0, margin - (hp - hd_k))`, (B,), in nats."""
    pos, neg = log_ratios(batch)  # hp (B,) and hd (B, K): log-probs against the reference
    gaps = pos[:, None] - neg
    metrics = {"reward_margin": gaps.detach().mean(dim=1), "pair_accuracy": (gaps > 0).float().mean(dim=1)}
    return ObjectiveOutput((params.margin - gaps).clamp_min(0).mean(dim=1), metrics)
