"""Adaptive betas and thresholds: numbers that the batch or the expert sets, never differentiated."""

from __future__ import annotations

import torch
from torch import Tensor

from raypref.config.objective_switches import Z_C, ExpertBeta
from raypref.objectives.batch import PreferenceBatch, State


def expert_beta(score_neg: Tensor, score_all_neg: Tensor, u_beta: float, gamma: float) -> Tensor:
    """`beta_k = (w_k - min w) / (max w - min w) (U_beta - z_c / gamma) + z_c / gamma` (EAPO eq. 9), (B, K).

    `w_k = S_p - S_k` is the expert's preference gap; the preferred title's score cancels, so
    `w_k - min w = max S - S_k`. Minimum and maximum run over ALL dispreferred candidates of the prompt, so that K = 1
    is defined and beta does not depend on which negatives were drawn. If all score alike, beta is U_beta.

    Args:
        score_neg: (B, K) the expert's scores S_k of the drawn dispreferred titles.
        score_all_neg: (B, C-1) its scores of all of the prompt's dispreferred candidates; NaN where there is none.
        u_beta: Largest beta.
        gamma: Plateau of the reward gap; z_c / gamma is the smallest beta.
    """
    absent = score_all_neg.isnan()
    highest = score_all_neg.masked_fill(absent, -torch.inf).amax(dim=-1, keepdim=True)
    lowest = score_all_neg.masked_fill(absent, torch.inf).amin(dim=-1, keepdim=True)
    spread = highest - lowest
    fraction = torch.where(spread > 0, (highest - score_neg) / spread.where(spread > 0, 1), 1)
    smallest = Z_C / gamma
    return fraction * (u_beta - smallest) + smallest


def pair_betas(batch: PreferenceBatch, params: ExpertBeta) -> Tensor:
    """EAPO's betas (B, K) from the columns `expert_score_neg` and `expert_score_all_neg`."""
    scores, all_scores = batch.column("expert_score_neg"), batch.column("expert_score_all_neg")
    return expert_beta(scores, all_scores, params.u_beta, params.gamma)


def gradient_factor(beta: Tensor, gap: Tensor) -> Tensor:
    """`G(beta, gap) = beta / (1 + e^(beta gap))` (EAPO eq. 5): how fast the reward gap of a pair still grows.

    It is minus the derivative of `-log sigmoid(beta gap)` with respect to the bare reward gap `gap`.
    """
    return beta * torch.sigmoid(-beta * gap)


def running(state: State, key: str, now: Tensor, momentum: float) -> Tensor:
    """The running mean `state[key]` as it stood before this batch; then moves it: `r <- m r + (1 - m) now`.

    It starts at the first batch's value. `now` is a scalar; the state keeps its dtype.
    """
    before = state.get(key, now.detach()).to(now)
    state[key] = momentum * before + (1 - momentum) * now.detach()
    return before


def corrected_means(state: State, weight: str, now: dict[str, Tensor], momentum: float) -> list[Tensor]:
    """The running means of `now`'s scalars, this batch included, in `now`'s order; corrected for their start at 0.

    Each `state[name] <- m state[name] + (1 - m) now`, and `state[weight]` the same with 1 for `now`; the mean is
    their quotient, as Adam's moments are corrected (Kingma and Ba 2015, section 3).
    """
    anything = next(iter(now.values()))
    for name, value in (now | {weight: torch.ones_like(anything)}).items():
        state[name] = momentum * state.get(name, torch.zeros_like(value)).to(value) + (1 - momentum) * value.detach()
    return [state[name] / state[weight] for name in now]


def gaussian_keep(gaps: Tensor, mean: Tensor, std: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Mask (B, K), 1 for the pairs that stay, of beta-DPO's filter.

    Draws `floor((1 - share) B K)` pairs, at least one, without replacement, with probabilities proportional to the
    normal density of their gap. By Gumbel's trick (the largest of log-weight + Gumbel noise), which also works where
    every density underflows. The noise is drawn on the CPU, so that all workers keep the same pairs.
    """
    kept = max(1, int((1 - share) * gaps.numel() + 1e-9))  # 1e-9: (1 - 0.2) 10 is 8, whatever its last bit
    uniform = torch.rand(gaps.shape, generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
    keys = -0.5 * ((gaps - mean) / std).square() + gumbel.to(gaps)
    mask = torch.zeros_like(gaps).flatten()
    mask[keys.flatten().topk(kept).indices] = 1
    return mask.view_as(gaps)
