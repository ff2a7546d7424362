"""RecPO's preference margins: how much more the user should like the preferred item, from ratings and latencies."""

from __future__ import annotations

import torch
from torch import Tensor

from raypref.config.objective_switches import Margin
from raypref.objectives.batch import PreferenceBatch

LOG_DIFF_FLOOR = 1e-6


def utility(score: Tensor, latency: Tensor, alpha: float) -> Tensor:
    """`phi(s, delta) = s / delta^alpha` (RecPO section 4.2).

    Args:
        score: Preference score, 1 to 5.
        latency: How far in the future the interaction lies, in steps of the user's log; 1 is the very next one.
        alpha: Temporal decay, > 0.
    """
    return score / latency**alpha


def ratio(phi_pos: Tensor, phi_neg: Tensor) -> Tensor:
    """`phi_p / phi_k` (RecPO eq. 4)."""
    return phi_pos / phi_neg


def log_ratio(phi_pos: Tensor, phi_neg: Tensor) -> Tensor:
    """`log phi_p - log phi_k` (RecPO section 5.2)."""
    return torch.log(phi_pos) - torch.log(phi_neg)


def log_diff(phi_pos: Tensor, phi_neg: Tensor) -> Tensor:
    """`log(1 + phi_p - phi_k)`, its argument floored at 1e-6 (the least margin is -13.8).

    The paper prints `log(phi_p - phi_k)` (section 5.2), which is undefined whenever phi_p <= phi_k.
    """
    return torch.log((1 + phi_pos - phi_neg).clamp_min(LOG_DIFF_FLOOR))


MARGINS = {"ratio": ratio, "log_ratio": log_ratio, "log_diff": log_diff}
"""By name: utilities that broadcast against each other to the margin m_k."""


def recpo_handicap(batch: PreferenceBatch, params: Margin, pairs: int) -> Tensor:
    """`lambda m_k` (B, pairs): what a pair's logit loses, so that the preferred title must win by that much.

    Reads the columns `rating_pos`, `rating_neg` (1 to 5), `latency_pos`, `latency_neg` (steps, >= 1). NaN, as a random
    negative has, takes `default_score` and `default_latency`; so do shared negatives, which are random to this user.

    Args:
        batch: B examples with K negatives of their own.
        params: Kind, weight, sign and scope of the margin.
        pairs: Number of pairs of each user, K or, with shared negatives, more: the own ones come first.
    """
    score, latency = params.default_score, params.default_latency
    phi_pos, phi_neg = (
        utility(
            batch.column(f"rating_{side}").nan_to_num(score),
            batch.column(f"latency_{side}").nan_to_num(latency),
            params.alpha,
        )
        for side in ("pos", "neg")
    )
    shared = phi_neg.new_full((len(phi_neg), pairs - phi_neg.shape[1]), score / latency**params.alpha)
    m = MARGINS[params.margin](phi_pos[:, None], torch.cat((phi_neg, shared), dim=1))
    if params.margin_scope == "summed":
        m = m.sum(dim=-1, keepdim=True).expand_as(m)
    return params.lambda_ * m if params.margin_sign == "derived" else -params.lambda_ * m
