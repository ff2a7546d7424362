"""The losses of 2025 and 2026 that look at a prompt's list as a whole: MPPO, DynamicPO, and the exact policy gradient.

Notation as in `losses.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raypref.config.list_objectives import DynamicPo, ListPg, Mppo
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.boundary import boundary_betas, boundary_negatives
from raypref.objectives.links import listwise_logistic
from raypref.objectives.margins import utility
from raypref.objectives.pairs import Rewards, compare
from raypref.objectives.rewards import log_probs, log_ratios, per_token

OUTSIDE = 1e-6
"""Least probability of what is said outside a list, in the divergence from the reference."""
STD_FLOOR = 1e-4
"""Least standard deviation of a list's rewards: where all are alike there is nothing to standardise."""


def mppo(batch: PreferenceBatch, params: Mppo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(beta (K e^(lp / n_p) - sum_k e^(ld_k / n_dk)))` (MPPO, COLING 2025, pair-wise multi-negative).

    What is compared is a title's average likelihood, the geometric mean of its tokens' probabilities: no reference.
    """
    pairs = compare(batch, _likelihoods(batch), params, beta=params.beta)
    return ObjectiveOutput(-logsigmoid(pairs.logits.sum(dim=-1)), pairs.metrics())


def dynamicpo(batch: PreferenceBatch, params: DynamicPo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(mean_{k in S} beta_k (hp - hd_k))` (DynamicPO, arXiv 2605.00327), for `base: dmpo`.

    S are the negatives at the boundary (`boundary_negatives`), `beta_k` is `boundary_betas`; both follow the policy's
    log-probs and are not differentiated. `base: sdpo` has S-DPO's list-wise loss over S, `-log sigmoid(-log sum_{k in
    S} exp(beta_k (hd_k - hp)))`; `base: mppo` has MPPO's, `-log sigmoid(sum_{k in S} beta_k (e^(lp / n_p) - e^(ld_k /
    n_dk)))`. The published code compares log-ratios with log-probs where its base is MPPO; log-probs are meant.
    """
    logps_pos, logps_neg = log_probs(batch)
    near = boundary_negatives(logps_pos, logps_neg)
    betas = boundary_betas(logps_pos, logps_neg, near, params.beta)
    rewards, link = _BASES[params.base]
    pairs = compare(batch, rewards(batch), params)
    metrics = pairs.metrics() | {
        "beta": (betas * near).sum(dim=-1) / near.sum(dim=-1),
        "boundary_negatives": near.sum(dim=-1).to(betas),
    }
    return ObjectiveOutput(link(betas * pairs.logits, near), metrics)


def list_pg(batch: PreferenceBatch, params: ListPg, state: State) -> ObjectiveOutput:
    """`-sum_c pi_c r_c / s + beta_kl KL(pi || pi_ref)` over the list: the expectation of REINFORCE, without sampling.

    The list is the preferred title and its K negatives. `over: list` has `pi = softmax(l / T)`; `over: all` has `pi_c =
    e^(l_c)`, the probability among all answers: what is said outside the list is one more outcome, of reward 0.

    REINFORCE weighs `grad log pi_c` by the advantage `A_c = (r_c - E r) / s`. Summed over all outcomes the baseline `E
    r` drops out of the gradient, as the probabilities sum to 1, so the loss is written without it; `s` is 1, or with
    `advantage: standardised` the standard deviation of r under pi (GRPO's of an endless group), not differentiated.
    """
    own, scores = _of_list(*log_probs(batch)), _rewards(batch, params)
    log_pi = _distribution(own, params)
    pi = log_pi.exp()
    expected = (pi * scores).sum(dim=-1)
    scale = torch.ones_like(expected)
    if params.advantage == "standardised":
        variance = (pi * scores.square()).sum(dim=-1) - expected.square()
        scale = variance.detach().clamp_min(STD_FLOOR**2).sqrt()
    losses = -expected / scale
    metrics = {"reward_expected": expected, "list_share": _likelihood(own).sum(dim=-1), "target_share": pi[:, 0]}
    if params.beta_kl > 0:
        ratios = log_ratios(batch)
        reference = own.detach() - _of_list(*ratios).detach()
        divergence = _divergence(log_pi, _distribution(reference, params), params.over == "all")
        losses, metrics = losses + params.beta_kl * divergence, metrics | {"kl": divergence}
    ahead = own[:, :1] - own[:, 1:]
    metrics |= {
        "pair_accuracy": (ahead > 0).to(own).mean(dim=-1),
        "list_accuracy": (ahead > 0).all(dim=-1).to(own),
    }
    return ObjectiveOutput(losses, {name: value.detach() for name, value in metrics.items()})


def _likelihoods(batch: PreferenceBatch) -> Rewards:
    pos, neg = per_token(batch, log_probs(batch))
    return _likelihood(pos), _likelihood(neg)


def _likelihood(logps: Tensor) -> Tensor:
    return logps.clamp_max(0).exp()  # rounding may carry a certain token's log-prob past 0


def _averaged(logits: Tensor, near: Tensor) -> Tensor:
    return -logsigmoid((logits * near).sum(dim=-1) / near.sum(dim=-1))


def _listwise(logits: Tensor, near: Tensor) -> Tensor:
    return listwise_logistic(logits.masked_fill(~near, torch.inf))


def _summed(logits: Tensor, near: Tensor) -> Tensor:
    return -logsigmoid((logits * near).sum(dim=-1))


_BASES: dict[str, tuple[Callable[[PreferenceBatch], Rewards], Callable[[Tensor, Tensor], Tensor]]] = {
    "dmpo": (log_ratios, _averaged),
    "sdpo": (log_ratios, _listwise),
    "mppo": (_likelihoods, _summed),
}
"""By name: the reward, and the link from pair logits (B, K) of the negatives that count (B, K) to losses (B,)."""


def _of_list(pos: Tensor, neg: Tensor) -> Tensor:
    """(B, 1 + K): the preferred title's value, then its negatives'."""
    return torch.cat((pos[:, None], neg), dim=1)


def _distribution(logps: Tensor, params: ListPg) -> Tensor:
    """Log-probs (B, 1 + K) of the list's titles as outcomes."""
    return logps.clamp_max(0) if params.over == "all" else (logps / params.temperature).log_softmax(dim=-1)


def _divergence(log_pi: Tensor, log_ref: Tensor, outside: bool) -> Tensor:
    """`KL(pi || pi_ref)` (B,) over the list's titles and, with `outside`, one outcome for everything else.

    Taking all other answers together gives a lower bound of the divergence over every answer.
    """
    if outside:
        log_pi, log_ref = (torch.cat((each, _log_rest(each)), dim=1) for each in (log_pi, log_ref))
    return (log_pi.exp() * (log_pi - log_ref)).sum(dim=-1)


def _log_rest(logps: Tensor) -> Tensor:
    """(B, 1) log-prob of an answer outside the list."""
    return torch.log((1 - logps.exp().sum(dim=-1, keepdim=True)).clamp_min(OUTSIDE))


def _target(batch: PreferenceBatch, params: ListPg) -> Tensor:
    return _of_list(torch.ones_like(log_probs(batch)[0]), torch.zeros_like(log_probs(batch)[1]))


def _utilities(batch: PreferenceBatch, params: ListPg) -> Tensor:
    pos, neg = (
        utility(
            batch.column(f"rating_{side}").nan_to_num(params.default_score),
            batch.column(f"latency_{side}").nan_to_num(params.default_latency),
            params.alpha,
        )
        for side in ("pos", "neg")
    )
    return _of_list(pos, neg)


def _expert_scores(batch: PreferenceBatch, params: ListPg) -> Tensor:
    return _of_list(batch.column("expert_score_pos"), batch.column("expert_score_neg"))


def _expert_discounts(batch: PreferenceBatch, params: ListPg) -> Tensor:
    scores = _expert_scores(batch, params)
    ahead, alike = scores[:, None] > scores[:, :, None], scores[:, None] == scores[:, :, None]
    rank = 1 + ahead.sum(dim=-1) + (alike.sum(dim=-1) - 1) / 2  # of equal scores each has the mean rank
    return 1 / torch.log2(1 + rank.to(scores))


_REWARDS: dict[str, Callable[[PreferenceBatch, ListPg], Tensor]] = {
    "target": _target,
    "utility": _utilities,
    "expert": _expert_scores,
    "expert-rank": _expert_discounts,
}
"""By name: the reward (B, 1 + K) of each title of the list."""


def _rewards(batch: PreferenceBatch, params: ListPg) -> Tensor:
    return _REWARDS[params.reward](batch, params)


LOSSES: dict[str, Objective] = {
    "mppo": mppo,
    "dynamicpo": dynamicpo,
    "list-pg": list_pg,
}
