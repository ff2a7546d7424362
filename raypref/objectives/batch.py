"""What an objective sees of a batch: log-probabilities and columns, never a model.

Shape letters: B examples, K dispreferred titles of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class PreferenceBatch:
    """One global batch of preference examples as an objective reads it.

    Log-probabilities are sums over a title's tokens and its end token, in nats, float32.
    """

    policy_logps_pos: Tensor
    """(B,) log-prob of the preferred title under the policy; carries the gradient."""
    policy_logps_neg: Tensor
    """(B, K) log-probs of the dispreferred titles under the policy; carry the gradient."""
    tokens_pos: Tensor
    """(B,) number of scored tokens of the preferred title, end token included."""
    tokens_neg: Tensor
    """(B, K) the same of the dispreferred titles."""
    ref_logps_pos: Tensor | None = None
    """(B,) log-prob of the preferred title under the frozen reference (the SFT model)."""
    ref_logps_neg: Tensor | None = None
    """(B, K) the same of the dispreferred titles."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """Columns of the example table, `(B,)` for `*_pos`, `(B, K)` for `*_neg`, `(B, D)` for embeddings."""

    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """`hp = lp - rp` (B,) and `hd = ld - rd` (B, K): how far the policy has moved from the reference."""
        if self.ref_logps_pos is None or self.ref_logps_neg is None:
            raise ValueError("this objective compares with a reference model: the batch lacks ref_logps")
        return self.policy_logps_pos - self.ref_logps_pos, self.policy_logps_neg - self.ref_logps_neg
