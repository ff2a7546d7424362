"""What a title is worth to the policy: the three rewards (before beta) that the losses compare.

Each returns the preferred titles' rewards (B,) and the dispreferred ones' (B, K), in nats, in at least float32.
"""

from __future__ import annotations

from torch import Tensor

from raypref.errors import UserError
from raypref.objectives.batch import PreferenceBatch, widen


def log_probs(batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    """`lp` and `ld_k`: no reference (SimS-DPO, CPO, NAPO)."""
    return widen(batch.policy_logps_pos), widen(batch.policy_logps_neg)


def log_ratios(batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    """`hp = lp - rp` and `hd_k = ld_k - rd_k`: how far the policy has moved from the reference (DPO)."""
    if batch.ref_logps_pos is None or batch.ref_logps_neg is None:
        raise UserError(
            "the objective compares with a reference model, and the batch has no reference log-probs",
            where="ref_logps_pos, ref_logps_neg",
            hint="the stage 'reference' fills them: run that stage, or choose an objective without a reference",
        )
    lp, ld = log_probs(batch)
    return lp - widen(batch.ref_logps_pos), ld - widen(batch.ref_logps_neg)


def per_token(batch: PreferenceBatch, rewards: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Rewards divided by the number of scored tokens (SimPO, NAPO eq. 4), so that long titles are not worth less."""
    pos, neg = rewards
    return pos / batch.tokens_pos, neg / batch.tokens_neg
