"""The losses whose numbers depend on the whole optimizer batch: NAPO, alpha-DPO, beta-DPO.

Notation as in `losses.py`. They must see the GLOBAL batch: all workers and, with gradient accumulation, all
micro-batches of the optimizer step (`gather.py` says how). `state` carries their running means, read first and moved
after: the first batch is its own threshold, later ones are judged by what came before.
"""

from __future__ import annotations

import torch

from raypref.config.objectives import AlphaDpo, BetaDpo, Napo
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.betas import corrected_means, gaussian_keep, running
from raypref.objectives.links import listwise_logistic, pairwise_logistic
from raypref.objectives.pairs import compare
from raypref.objectives.rewards import log_probs, log_ratios, per_token
from raypref.objectives.sharing import negative_pool

STD_FLOOR = 1e-4
"""Least standard deviation of gaps, in nats: one pair, or equal but for rounding, are at the mean."""
BETA_FLOOR = 1e-3
"""Least beta of beta-DPO, as its published code clamps it."""


def napo(batch: PreferenceBatch, params: Napo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_{k in E_u} exp(beta (ld_k - lp)) - gamma_batch)` (NAPO eq. 11, 12, 16, 17).

    `E_u` is the user's own negatives and those of similar users (`sharing.py`).
    `gamma_batch = [1 + alpha (mean conf - R0)] gamma0`, then `R0 <- m R0 + (1 - m) mean conf`. The mean is over the
    pools of the global batch, own and shared negatives alike; a shared negative brings the confidence it has under its
    own user's history, as it brings the log-prob. R0 starts at the first batch's mean, so the first margin is gamma0.

    Reads `expert_confidence_neg`, `conf = (1 - score) / 2` in [0, 1], and `sequence_embedding`. State: `R0`.
    """
    rewards = per_token(batch, log_probs(batch)) if params.length_normalised else log_probs(batch)
    pool = negative_pool(batch, params)
    confidence = pool.extend(batch.column("expert_confidence_neg")).mean()
    threshold = running(state, "R0", confidence, params.momentum)
    gamma = (1 + params.alpha * (confidence - threshold)) * params.gamma0
    pairs = compare(batch, rewards, params, beta=params.beta, gamma=gamma, pool=pool)
    metrics = pairs.listwise_metrics() | {"confidence": confidence.expand_as(pairs.rewards_pos)}
    return ObjectiveOutput(listwise_logistic(pairs.logits), metrics)


def alpha_dpo(batch: PreferenceBatch, params: AlphaDpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta (lp / n_p - ld_k / n_dk) - sg[gamma0 + alpha z_k])` (Wu et al. 2024, alpha-DPO).

    `z_k = (M_k - mean) / std` standardises the gap `M_k = beta (hp / n_p - hd_k / n_dk)` by which policy and reference
    differ on the pair, with running mean and standard deviation over all pairs of the batch; `sg` stops the gradient.
    The reward has no reference: only the margin has. The running numbers move before they are read (as in the published
    code) and are divided by the weight they have gathered: the first batch, where policy and reference are the same
    and all gaps 0, would otherwise count as a deviation of 0 for many steps, and the second batch's z be huge.
    State: `gap_mean`, `gap_std`, `gap_weight`.
    """
    rewards, ratios = log_probs(batch), log_ratios(batch)
    if params.length_normalised:
        rewards, ratios = per_token(batch, rewards), per_token(batch, ratios)
    gaps = params.beta * (ratios[0][:, None] - ratios[1]).detach()
    mean, std = corrected_means(
        state, "gap_weight", {"gap_mean": gaps.mean(), "gap_std": gaps.std(unbiased=False)}, params.momentum
    )
    gamma = params.gamma0 + params.alpha * (gaps - mean) / std.clamp_min(STD_FLOOR)
    pairs = compare(batch, rewards, params, beta=params.beta, gamma=gamma)
    return ObjectiveOutput(pairwise_logistic(pairs.logits), pairs.metrics())


def beta_dpo(batch: PreferenceBatch, params: BetaDpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta_batch (hp - hd_k))` over the pairs that the filter keeps (Wu et al. 2024, beta-DPO).

    `beta_batch = sg[beta (1 + a (M_batch - M0))]`, at least 1e-3, where `M_batch` is the mean of the bare gaps
    `hp - hd_k` of the kept pairs and M0 the running mean of all. The filter leaves out a share `filter_share` of the
    batch's pairs by `gaussian_keep` around M0. Kept pairs are weighted so that the mean loss is theirs; an example
    whose pairs are all left out has loss 0.

    State: `M0`, `gap_std`, and `draws`, the number of filters drawn, which seeds the next one, the same on all workers.
    """
    ratios = log_ratios(batch)
    gaps = (ratios[0][:, None] - ratios[1]).detach()
    mean = running(state, "M0", gaps.mean(), params.momentum)
    std = running(state, "gap_std", gaps.std(unbiased=False), params.momentum)
    keep = torch.ones_like(gaps)
    if params.filter_share > 0:
        draws = state.get("draws", torch.zeros((), dtype=torch.long))
        state["draws"] = draws + 1
        generator = torch.Generator().manual_seed(params.filter_seed * 1_000_003 + int(draws))
        keep = gaussian_keep(gaps, mean, std.clamp_min(STD_FLOOR), params.filter_share, generator)
    weights = keep * (keep.numel() / keep.sum())
    beta = (params.beta * (1 + params.a * ((weights * gaps).mean() - mean))).clamp_min(BETA_FLOOR)
    pairs = compare(batch, ratios, params, beta=beta)
    losses = pairwise_logistic(pairs.logits[..., None])  # each pair its own list of one: (B, K)
    return ObjectiveOutput((weights * losses).mean(dim=-1), pairs.metrics() | {"kept_pairs": keep.mean(dim=-1)})


LOSSES: dict[str, Objective] = {
    "napo": napo,
    "alpha-dpo": alpha_dpo,
    "beta-dpo": beta_dpo,
}
