"""The losses of one example: each reads as its equation does, a reward, a comparison, a link.

Notation: `lp`, `ld_k` are the log-probs of the preferred title and of dispreferred title k under the policy, `rp`,
`rd_k` under the reference, `n` their scored tokens; `hp = lp - rp`, `hd_k = ld_k - rd_k`. All take a batch of B
examples with K negatives each and return losses (B,). Switches (margin, adaptive beta, shared negatives) come from
`params` and act in `compare`. `state` is not used here.
"""

from __future__ import annotations

from raypref.config.objectives import (
    Cpo,
    Dmpo,
    Dpo,
    EaCpo,
    EaIpo,
    Eapo,
    EaSdpo,
    Ipo,
    Recpo,
    Rosepo,
    Sdpo,
    Simpo,
    SimsDpo,
)
from raypref.objectives.batch import Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.links import (
    averaged_logistic,
    listwise_logistic,
    pairwise_logistic,
    smoothed_logistic,
    squared,
)
from raypref.objectives.pairs import Comparison, compare
from raypref.objectives.rewards import log_probs, log_ratios, per_token


def dpo(batch: PreferenceBatch, params: Dpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta (hp - hd_k))` (S-DPO eq. 7).

    K = 1 is DPO; K > 1 is the baseline that S-DPO's table 2 calls "DPO-K negative".
    """
    pairs = compare(batch, log_ratios(batch), params, beta=params.beta)
    return ObjectiveOutput(pairwise_logistic(pairs.logits), pairs.metrics())


def ipo(batch: PreferenceBatch, params: Ipo | EaIpo, state: State) -> ObjectiveOutput:
    """`mean_k (hp - hd_k - 1 / (2 tau))^2` (EAPO eq. 12 with beta = 1).

    `length_normalised` averages each log-ratio over its title's tokens, as TRL does.
    """
    ratios = log_ratios(batch)
    pairs = compare(batch, per_token(batch, ratios) if params.length_normalised else ratios, params)
    return ObjectiveOutput(squared(pairs.logits, 1 / (2 * params.tau)), pairs.metrics())


def cpo(batch: PreferenceBatch, params: Cpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta (lp - ld_k)) + c_nll (-lp / n_p)` (Xu et al. 2024)."""
    return _with_likelihood(batch, compare(batch, log_probs(batch), params, beta=params.beta), params.c_nll)


def simpo(batch: PreferenceBatch, params: Simpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta (lp / n_p - ld_k / n_dk) - gamma0)` (NAPO eq. 6)."""
    pairs = compare(batch, per_token(batch, log_probs(batch)), params, beta=params.beta, gamma=params.gamma0)
    return ObjectiveOutput(pairwise_logistic(pairs.logits), pairs.metrics())


def rosepo(batch: PreferenceBatch, params: Rosepo, state: State) -> ObjectiveOutput:
    """`mean_k -(1 - eps) log sigmoid(z_k) - eps log sigmoid(-z_k)`, `z_k = beta (hp - hd_k)` (NAPO table 1).

    With `smoothing: expert`, eps of a pair is `sigmoid(S_k - S_p)`, the expert's Bradley-Terry probability that the
    label is the wrong way round, at most 1/2: doubt may silence a pair, but not turn it. Reads `expert_score_pos` and
    `expert_score_neg` then.
    """
    pairs = compare(batch, log_ratios(batch), params, beta=params.beta)
    if params.smoothing == "expert":
        doubt = batch.column("expert_score_neg") - batch.column("expert_score_pos")[:, None]
        epsilon = doubt.sigmoid().clamp_max(0.5)
        metrics = pairs.metrics() | {"epsilon": epsilon.mean(dim=-1)}
        return ObjectiveOutput(smoothed_logistic(pairs.logits, epsilon), metrics)
    return ObjectiveOutput(smoothed_logistic(pairs.logits, params.epsilon), pairs.metrics())


def dmpo(batch: PreferenceBatch, params: Dmpo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(beta hp - beta mean_k hd_k)` (Bai et al. 2024, corrected).

    The published code passes the preferred title's reference log-prob twice, so that the negatives are compared with
    the wrong reference; here each title has its own.
    """
    pairs = compare(batch, log_ratios(batch), params, beta=params.beta)
    return ObjectiveOutput(averaged_logistic(pairs.logits), pairs.metrics())


def sdpo(batch: PreferenceBatch, params: Sdpo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta (hd_k - hp)))` (S-DPO eq. 11). K = 1 is DPO.

    With `share_negatives`, the sum also runs over the log-ratios of similar users' negatives ("S-DPO + NS", NAPO
    table 3).
    """
    pairs = compare(batch, log_ratios(batch), params, beta=params.beta)
    return ObjectiveOutput(listwise_logistic(pairs.logits), pairs.listwise_metrics())


def sims_dpo(batch: PreferenceBatch, params: SimsDpo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta (ld_k - lp)))`: S-DPO without a reference (NAPO table 3)."""
    pairs = compare(batch, log_probs(batch), params, beta=params.beta)
    return ObjectiveOutput(listwise_logistic(pairs.logits), pairs.listwise_metrics())


def recpo(batch: PreferenceBatch, params: Recpo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta (hd_k - hp) + lambda m_k))` (RecPO eq. 5 and 7).

    The margin `m_k` handicaps the preferred title: the better and the sooner it is than title k, the clearer it must
    win; `recpo_handicap` says how it is computed and from which columns. lambda = 0 is S-DPO, to the bit.
    """
    pairs = compare(batch, log_ratios(batch), params, beta=params.beta)
    return ObjectiveOutput(listwise_logistic(pairs.logits), pairs.listwise_metrics())


def eapo(batch: PreferenceBatch, params: Eapo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta_k (hp - hd_k))` (EAPO eq. 10), `beta_k` by `expert_beta` (eq. 9).

    The reward is the bare log-ratio: eq. 10 multiplies by beta_k once, and eq. 2's beta is not applied again. The
    metric `gradient_factor` is `mean_k beta_k / (1 + exp(beta_k (hp - hd_k)))` (eq. 5).
    """
    pairs = compare(batch, log_ratios(batch), params)
    return ObjectiveOutput(pairwise_logistic(pairs.logits), pairs.metrics())


def ea_sdpo(batch: PreferenceBatch, params: EaSdpo, state: State) -> ObjectiveOutput:
    """`-log sigmoid(-log sum_k exp(beta_k (hd_k - hp)))`: S-DPO with EAPO's beta of each pair (EAPO eq. 11)."""
    pairs = compare(batch, log_ratios(batch), params)
    return ObjectiveOutput(listwise_logistic(pairs.logits), pairs.listwise_metrics())


def ea_ipo(batch: PreferenceBatch, params: EaIpo, state: State) -> ObjectiveOutput:
    """`mean_k (beta_k (hp - hd_k) - 1 / (2 tau))^2` (EAPO eq. 12)."""
    return ipo(batch, params, state)


def ea_cpo(batch: PreferenceBatch, params: EaCpo, state: State) -> ObjectiveOutput:
    """`mean_k -log sigmoid(beta_k (lp - ld_k)) + c_nll (-lp / n_p)`: CPO with EAPO's betas (EAPO eq. 11)."""
    return _with_likelihood(batch, compare(batch, log_probs(batch), params), params.c_nll)


def _with_likelihood(batch: PreferenceBatch, pairs: Comparison, c_nll: float) -> ObjectiveOutput:
    """CPO's two terms: the preference, and the preferred title's negative log-likelihood per token."""
    nll = -per_token(batch, log_probs(batch))[0]
    return ObjectiveOutput(pairwise_logistic(pairs.logits) + c_nll * nll, pairs.metrics() | {"nll": nll.detach()})


LOSSES: dict[str, Objective] = {
    "dpo": dpo,
    "ipo": ipo,
    "cpo": cpo,
    "simpo": simpo,
    "rosepo": rosepo,
    "dmpo": dmpo,
    "sdpo": sdpo,
    "sims-dpo": sims_dpo,
    "recpo": recpo,
    "eapo": eapo,
    "ea-sdpo": ea_sdpo,
    "ea-ipo": ea_ipo,
    "ea-cpo": ea_cpo,
}
