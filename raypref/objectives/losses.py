"""The losses by name: each reads top to bottom as its equation does.

Shape letters: B examples, K dispreferred titles of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from raypref.config.objectives import Dpo, Recpo, Sdpo
from raypref.objectives.batch import PreferenceBatch
from raypref.objectives.links import listwise_logistic, pairwise_logistic
from raypref.objectives.margins import margin, utility


class ObjectiveOutput(NamedTuple):
    """What a loss gives back."""

    losses: Tensor
    """(B,) loss of each example, float32; the batch's loss is their mean."""
    metrics: dict[str, Tensor]
    """Detached per-example values (B,), to be averaged over the batch by whoever logs them."""


class Objective(Protocol):
    def __call__(self, batch: PreferenceBatch, params: Any) -> ObjectiveOutput: ...


def reward_metrics(rewards_pos: Tensor, rewards_neg: Tensor) -> dict[str, Tensor]:
    """Rewards of preferred (B,) and dispreferred (B, K) titles as per-example means (B,), their gap, and who wins."""
    gaps = (rewards_pos[:, None] - rewards_neg).detach()
    return {
        "reward_pos": rewards_pos.detach(),
        "reward_neg": rewards_neg.detach().mean(dim=-1),
        "reward_margin": gaps.mean(dim=-1),
        "pair_accuracy": (gaps > 0).float().mean(dim=-1),
        "list_accuracy": (gaps > 0).all(dim=-1).float(),
    }


def dpo(batch: PreferenceBatch, params: Dpo) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta (hp - hd_k))` (S-DPO eq. 7)."""
    hp, hd = batch.log_ratios()
    logits = params.beta * (hp[:, None] - hd)
    return ObjectiveOutput(pairwise_logistic(logits), reward_metrics(params.beta * hp, params.beta * hd))


def sdpo(batch: PreferenceBatch, params: Sdpo) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta (hd_k - hp)))` (S-DPO eq. 11)."""
    hp, hd = batch.log_ratios()
    logits = params.beta * (hp[:, None] - hd)
    return ObjectiveOutput(listwise_logistic(logits), reward_metrics(params.beta * hp, params.beta * hd))


def recpo(batch: PreferenceBatch, params: Recpo) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta (hd_k - hp) + lambda m_k))` (RecPO eq. 5 and 7).

    The margin `m_k` handicaps the preferred title: the better and the sooner it is than title k, the clearer it must
    win. Reads the columns `rating_pos`, `rating_neg` (1 to 5) and `latency_pos`, `latency_neg` (steps, >= 1); NaN,
    as a random negative has, takes `default_score` and `default_latency`.
    """
    hp, hd = batch.log_ratios()
    phi_pos, phi_neg = (
        utility(
            batch.columns[f"rating_{side}"].nan_to_num(params.default_score),
            batch.columns[f"latency_{side}"].nan_to_num(params.default_latency),
            params.alpha,
        )
        for side in ("pos", "neg")
    )
    m = margin(phi_pos, phi_neg, params.margin)
    if params.margin_scope == "summed":
        m = m.sum(dim=-1, keepdim=True).expand_as(m)
    handicap = params.lambda_ * m if params.margin_sign == "derived" else -params.lambda_ * m
    logits = params.beta * (hp[:, None] - hd) - handicap
    metrics = reward_metrics(params.beta * hp, params.beta * hd)
    return ObjectiveOutput(listwise_logistic(logits), metrics | {"margin": m.mean(dim=-1)})
