"""RecPO's preference margins: how much more the user should like the preferred item, from ratings and latencies."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

MarginKind = Literal["ratio", "log_ratio", "log_diff"]
LOG_DIFF_FLOOR = 1e-6


def utility(score: Tensor, latency: Tensor, alpha: float) -> Tensor:
    """`phi(s, delta) = s / delta^alpha` (RecPO section 4.2).

    Args:
        score: Preference score, 1 to 5.
        latency: How far in the future the interaction lies, in steps of the user's log; 1 is the very next one.
        alpha: Temporal decay, > 0.
    """
    return score.float() / latency.float() ** alpha


def margin(phi_pos: Tensor, phi_neg: Tensor, kind: MarginKind) -> Tensor:
    """`m_k` (B, K) from utilities `phi_pos` (B,) and `phi_neg` (B, K).

    ratio: `phi_p / phi_k` (RecPO eq. 4). log_ratio: `log phi_p - log phi_k`. log_diff: `log(1 + phi_p - phi_k)`, its
    argument floored at 1e-6; the paper prints `log(phi_p - phi_k)`, which is undefined whenever phi_p <= phi_k.
    """
    phi_pos = phi_pos[:, None]
    if kind == "ratio":
        return phi_pos / phi_neg
    if kind == "log_ratio":
        return torch.log(phi_pos) - torch.log(phi_neg)
    return torch.log((1 + phi_pos - phi_neg).clamp_min(LOG_DIFF_FLOOR))
