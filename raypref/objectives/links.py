"""From pair logits to a per-example loss: the shapes that the preference losses share.

A pair logit `z_k` is how clearly the preferred title beats dispreferred title k (0 = a tie, in nats). All take logits
(B, K) and return losses (B,) in at least float32; the list-wise one goes through logsumexp, never a log of a sum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raypref.objectives.batch import widen


def pairwise_logistic(logits: Tensor) -> Tensor:
    """`mean_k -log sigmoid(z_k)`: Bradley-Terry over each pair (DPO)."""
    return -logsigmoid(widen(logits)).mean(dim=-1)


def smoothed_logistic(logits: Tensor, epsilon: float | Tensor) -> Tensor:
    """`mean_k -(1 - eps) log sigmoid(z_k) - eps log sigmoid(-z_k)`: a share `eps` of labels is wrong (RosePO).

    Args:
        logits: (B, K) pair logits.
        epsilon: One number, or one for each pair (B, K), in [0, 1/2].
    """
    z = widen(logits)
    # log sigmoid(z) - log sigmoid(-z) = z, so one logsigmoid serves both terms
    return (epsilon * z - logsigmoid(z)).mean(dim=-1)


def squared(logits: Tensor, target: float) -> Tensor:
    """`mean_k (z_k - target)^2`: draws each gap to the target and no further (IPO)."""
    return (widen(logits) - target).square().mean(dim=-1)


def averaged_logistic(logits: Tensor) -> Tensor:
    """`-log sigmoid(mean_k z_k)`: the preferred title against the average dispreferred one (DMPO)."""
    return -logsigmoid(widen(logits).mean(dim=-1))


def listwise_logistic(logits: Tensor) -> Tensor:
    """`-log sigmoid(-log sum_k exp(-z_k))`.

    Plackett-Luce with the preferred title first (S-DPO eq. 11): the softmax loss of the preferred title against all
    K dispreferred ones. With K = 1 it is `pairwise_logistic`.
    """
    return -logsigmoid(-torch.logsumexp(-widen(logits), dim=-1))
