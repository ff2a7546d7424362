"""From pair logits to a per-example loss: the shapes that the preference losses share.

A pair logit `z_k` is how clearly the preferred title beats dispreferred title k (0 = a tie, in nats). All reductions
are in float32 and all list-wise ones go through logsumexp.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def pairwise_logistic(logits: Tensor) -> Tensor:
    """`mean_k -log sigmoid(z_k)` (B,) of pair logits (B, K): Bradley-Terry over each pair (DPO)."""
    return -logsigmoid(logits.float()).mean(dim=-1)


def listwise_logistic(logits: Tensor) -> Tensor:
    """`-log sigmoid(-log sum_k exp(-z_k))` (B,) of pair logits (B, K).

    Plackett-Luce with the preferred title first (S-DPO eq. 11): the softmax loss of the preferred title against all
    K dispreferred ones. With K = 1 it is `pairwise_logistic`.
    """
    return -logsigmoid(-torch.logsumexp(-logits.float(), dim=-1))
