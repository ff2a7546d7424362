"""Each preferred title against each of its negatives: where the switches of the config meet the loss.

`compare` turns rewards into pair logits `z_k = beta_k (h_p - h_k) - gamma_k`. Margin, adaptive beta and sharing enter
here and nowhere else, so that a loss is one line: a reward, a comparison, a link.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raypref.config.objective_switches import ExpertBeta, Margin, Objective, Sharing
from raypref.objectives.batch import PreferenceBatch
from raypref.objectives.betas import gradient_factor, pair_betas
from raypref.objectives.margins import recpo_handicap
from raypref.objectives.sharing import NegativePool, negative_pool

Rewards = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Comparison:
    """B users, each with K negatives of its own and N >= K in its pool (own ones first)."""

    rewards_pos: Tensor
    """(B,) reward of the preferred title: times beta if one beta rules all pairs, bare if the expert sets each."""
    rewards_neg: Tensor
    """(B, K) the same of the own negatives."""
    logits: Tensor
    """(B, N) `z_k`; carries the gradient."""
    extras: dict[str, Tensor]
    """Detached means over the pool (B,): the `beta` and the margin `gamma` actually used (0 where there is none), and
    EAPO's `gradient_factor` where the expert sets beta."""

    def metrics(self) -> dict[str, Tensor]:
        """Detached per-example values (B,) that every objective logs.

        Rewards, their gap and who wins are of the user's own negatives, so that methods with and without sharing
        compare; a win is a positive reward gap, margins aside. A tie is no win.
        """
        rewards_pos, rewards_neg = self.rewards_pos.detach(), self.rewards_neg.detach()
        gaps = rewards_pos[:, None] - rewards_neg
        return {
            "reward_pos": rewards_pos,
            "reward_neg": rewards_neg.mean(dim=-1),
            "reward_margin": gaps.mean(dim=-1),
            "pair_accuracy": (gaps > 0).to(gaps).mean(dim=-1),
            "list_accuracy": (gaps > 0).all(dim=-1).to(gaps),
            **self.extras,
        }

    def listwise_metrics(self) -> dict[str, Tensor]:
        """`metrics`, and the effective number of negatives.

        That is the exponential of the entropy of `softmax_k(-z_k)`, the weights with which a list-wise loss pushes its
        negatives down: from 1 (one hard negative takes all) to N (all alike).
        """
        log_weights = (-self.logits.detach()).log_softmax(dim=-1)
        entropy = -(log_weights.exp() * log_weights).sum(dim=-1)
        return self.metrics() | {"effective_negatives": entropy.exp()}


def compare(
    batch: PreferenceBatch,
    rewards: Rewards,
    params: Objective,
    *,
    beta: float | Tensor = 1.0,
    gamma: float | Tensor | None = None,
    pool: NegativePool | None = None,
) -> Comparison:
    """Pair logits of rewards, with the switches that `params` has.

    Args:
        batch: B examples with K negatives of their own.
        rewards: Bare rewards of the preferred (B,) and dispreferred (B, K) titles.
        params: Its switches: `margin`, `adaptive_beta`, `share_negatives`.
        beta: Of all pairs; unused if `adaptive_beta` sets one for each.
        gamma: Margin of the loss itself, beside the switch: a number, or one for each pair (B, N).
        pool: Whose negatives are shared, if the caller has found that out already.
    """
    if pool is None and isinstance(params, Sharing):
        pool = negative_pool(batch, params)
    rewards_pos, own = rewards
    gaps = rewards_pos[:, None] - (own if pool is None else pool.extend(own))
    extras: dict[str, Tensor] = {}
    betas, scale = beta, beta
    if isinstance(params, ExpertBeta) and params.adaptive_beta == "expert":
        betas, scale = pair_betas(batch, params), 1.0
        extras["gradient_factor"] = gradient_factor(betas, gaps).mean(dim=-1)
    logits = betas * gaps
    extras["beta"] = (torch.ones_like(gaps) * betas).mean(dim=-1)
    margins = torch.zeros_like(gaps)
    if gamma is not None:
        logits, margins = logits - gamma, margins + gamma
    if isinstance(params, Margin) and params.margin != "none":
        handicap = recpo_handicap(batch, params, pairs=gaps.shape[1])
        logits, margins = logits - handicap, margins + handicap
    extras["gamma"] = margins.mean(dim=-1)
    extras = {name: value.detach() for name, value in extras.items()}
    return Comparison(scale * rewards_pos, scale * own, logits, extras)
