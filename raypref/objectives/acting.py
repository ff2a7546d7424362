"""How a loss acts on a batch: whom it pulls and pushes, how hard, how far the policy has moved. Logged, never used."""

from __future__ import annotations

import torch
from torch import Tensor

from raypref.objectives.batch import ObjectiveOutput, PreferenceBatch, widen

MOST_SHARES = 5


def acting_metrics(batch: PreferenceBatch, output: ObjectiveOutput) -> dict[str, Tensor]:
    """Detached per-example values (B,), from the loss's own gradient with respect to the log-probs; of any objective.

    slope: `|dl/dlp| / beta`, the sum over pairs of |dl/dz_k|: near 1 a logistic loss is linear, and pulls alike
    whatever the margin is; near 0 it is content. gradient_share_1 ...: the negatives' shares of the push, the greatest
    first, `|dl/dld_k| / sum`, at most five. logp_pos: the preferred title's log-prob, whose fall is DPO's known failure
    (Pal et al. 2024). drift: mean over the titles of |log-prob less the reference's| a token, in nats; needs a
    reference.

    Edge cases: nothing pushed, a share is 0; no graph (validation), nothing but logp_pos and drift.
    """
    found = {"logp_pos": widen(batch.policy_logps_pos).detach()}
    if batch.ref_logps_pos is not None and batch.ref_logps_neg is not None:
        moved_pos = (found["logp_pos"] - widen(batch.ref_logps_pos)).abs() / batch.tokens_pos
        moved_neg = (widen(batch.policy_logps_neg).detach() - widen(batch.ref_logps_neg)).abs() / batch.tokens_neg
        found["drift"] = torch.cat((moved_pos[:, None], moved_neg), dim=1).mean(dim=1)
    if output.losses.requires_grad:
        logps = (batch.policy_logps_pos, batch.policy_logps_neg)
        pull, push = torch.autograd.grad(output.losses.sum(), logps, retain_graph=True, materialize_grads=True)
        found["slope"] = widen(pull).abs() / output.metrics.get("beta", torch.ones_like(found["logp_pos"]))
        forces = widen(push).abs().sort(dim=1, descending=True).values
        shares = forces / forces.sum(dim=1, keepdim=True).clamp_min(torch.finfo(forces.dtype).tiny)
        found |= {f"gradient_share_{k + 1}": shares[:, k] for k in range(min(MOST_SHARES, shares.shape[1]))}
    return found
