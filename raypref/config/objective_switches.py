"""The switches that stand beside an objective's loss and combine freely, as mixins of its parameter class.

A loss is a reward and a link. Beside them: a margin from ratings and latencies (RecPO), a beta of each pair from the
expert (EAPO), and negatives shared within the batch (NAPO). What a switch needs of the batch (columns, scope) and which
combinations make no sense is said here, once.
"""

from __future__ import annotations

from math import exp
from typing import Annotated, Any, ClassVar, Literal

import tyro
from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.base import Frozen

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Scope = Literal["example", "batch"]

MARGIN_KEYS = ("margin", "lambda", "margin_sign", "margin_scope", "default_score", "default_latency")
SHARING_KEYS = ("share_negatives", "rho", "shared_gradient")
"""Keys of the switches, for objectives that refuse them with a reason."""

COLUMNS = {
    "rating_pos": "prepare",
    "rating_neg": "prepare",
    "latency_pos": "prepare",
    "latency_neg": "prepare",
    "expert_score_pos": "expert",
    "expert_score_neg": "expert",
    "expert_score_all_neg": "expert",
    "expert_confidence_neg": "expert",
    "sequence_embedding": "expert",
}
"""The columns that objectives may read, each with the stage that fills it."""


def critical_point() -> float:
    """EAPO's `z_c` = 1.27846..., the root of `e^z (z - 1) = 1`: where the gradient factor stops growing with beta."""
    z = 1.3  # Newton's iteration on f(z) = e^z (z - 1) - 1, f'(z) = z e^z: convex here, so it converges from above
    for _ in range(20):
        z -= (exp(z) * (z - 1) - 1) / (z * exp(z))
    return z


Z_C = critical_point()


class Objective(Frozen):
    """What all objectives declare to the training loop and to the planner of a run."""

    uses_reference: ClassVar[bool]
    """Whether the loss reads the reference's log-probs."""
    listwise: ClassVar[bool] = False
    """Whether all negatives compete in one term (Plackett-Luce), not each in its own (Bradley-Terry)."""
    refuses: ClassVar[dict[str, str]] = {}
    """Keys that other objectives have and this one cannot, each with the reason."""

    @property
    def scope(self) -> Scope:
        """`batch`: the loss of one example depends on the others, so it needs the global optimizer batch at once."""
        return "example"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the example table that the loss reads, beside log-probs and token counts."""
        return ()

    @property
    def stops_gradient(self) -> bool:
        """Whether something follows the policy's log-probs without being differentiated."""
        return False

    @property
    def draws(self) -> bool:
        """Whether the loss draws at random, seeded from its state."""
        return False

    @model_validator(mode="before")
    @classmethod
    def _refuse_with_reason(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key in cls.refuses:
                raise ValueError(f"'{cls.model_fields['name'].default}' takes no '{key}': {cls.refuses[key]}")
        return values

    def _idle(self, keys: tuple[str, ...], why: str) -> None:
        """Refuse values that would change nothing: a sweep over them would report noise as an effect."""
        for key in keys:
            field = type(self).model_fields[key]
            if getattr(self, key) != field.default:
                raise ValueError(f"'{field.alias or key}' has no effect: {why}")


class Beta(Objective):
    beta: Positive = 1.0
    """Scale of the reward; with a reference, the strength of the pull towards it."""


class Margin(Objective):
    """The switch `margin`: RecPO's handicap of the preferred title, from ratings and latencies."""

    margin: Literal["none", "ratio", "log_ratio", "log_diff"] = "none"
    """Margin of a pair of utilities (RecPO eq. 4 and table 2), subtracted from the pair's logit."""
    lambda_: Annotated[NonNegative, tyro.conf.arg(name="lambda")] = Field(2.0, alias="lambda")
    """Weight of the margin (RecPO eq. 4); 0 is no margin."""
    alpha: Positive = 0.5
    """Temporal decay of an item's utility, score / latency^alpha."""
    margin_sign: Literal["derived", "as_printed"] = "derived"
    """`derived`: the margin is a handicap of the preferred item (RecPO eq. 5, 17 and its code); `as_printed`: eq. 7."""
    margin_scope: Literal["pair", "summed"] = "pair"
    """`pair`: each term carries its own margin (RecPO eq. 7); `summed`: each carries the sum of the list's (eq. 17)."""
    default_score: Positive = 3.0
    """Score of a random negative, which the user never rated."""
    default_latency: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 11.0
    """Latency, in steps, of a random negative, which the user never reached."""

    @property
    def columns(self) -> tuple[str, ...]:
        own = () if self.margin == "none" else ("rating_pos", "rating_neg", "latency_pos", "latency_neg")
        return super().columns + own

    @model_validator(mode="after")
    def _margin_makes_sense(self) -> Self:
        if self.margin == "none":
            keys = ("lambda_", "alpha", "margin_sign", "margin_scope", "default_score", "default_latency")
            self._idle(keys, "margin is 'none'")
        if self.margin_scope == "summed" and not self.listwise:
            raise ValueError("margin_scope 'summed' is of the list-wise model (RecPO eq. 17); this loss is per pair")
        return self


class ExpertBeta(Objective):
    """The switch `adaptive_beta`: EAPO's beta of each pair, from how far apart the expert sees the two titles."""

    adaptive_beta: Literal["none", "expert"] = "none"
    """`expert`: beta of each pair grows with the expert's preference gap (EAPO eq. 9), in place of `beta`."""
    u_beta: Positive = 0.75
    """Largest beta, of the pair that the expert finds easiest (EAPO's U_beta, C.4)."""
    gamma: Positive = 5.0
    """Plateau of the reward gap late in training; the smallest beta is z_c / gamma (EAPO eq. 7 and 9)."""

    @property
    def columns(self) -> tuple[str, ...]:
        own = () if self.adaptive_beta == "none" else ("expert_score_neg", "expert_score_all_neg")
        return super().columns + own

    @model_validator(mode="after")
    def _betas_make_sense(self) -> Self:
        if self.adaptive_beta == "none":
            self._idle(("u_beta", "gamma"), "adaptive_beta is 'none'")
        elif "beta" in type(self).model_fields:
            self._idle(("beta",), "adaptive_beta is 'expert', which sets beta from u_beta and gamma")
        if self.u_beta < Z_C / self.gamma:
            raise ValueError(
                f"u_beta = {self.u_beta:g} is below the smallest beta, z_c / gamma = {Z_C / self.gamma:.4g}: "
                f"raise u_beta, or raise gamma above {Z_C / self.u_beta:.4g}"
            )
        return self


class Sharing(Objective):
    """The switch `share_negatives`: NAPO's in-batch negatives, beside whatever objective."""

    share_negatives: bool = False
    """Add the negatives of similar users of the global batch to each user's own (NAPO section 3.2)."""
    rho: Share = 0.7
    """Share of the batch's other users whose negatives are taken, nearest first: floor((B - 1) rho) of them."""
    shared_gradient: bool = True
    """Let the gradient flow into shared log-probs; `false` detaches them, as NAPO's published code does."""

    @property
    def scope(self) -> Scope:
        return "batch" if self.share_negatives else super().scope

    @property
    def columns(self) -> tuple[str, ...]:
        return super().columns + (("sequence_embedding",) if self.share_negatives else ())

    @property
    def stops_gradient(self) -> bool:
        return super().stops_gradient or (self.share_negatives and not self.shared_gradient)

    @model_validator(mode="after")
    def _sharing_makes_sense(self) -> Self:
        if not self.share_negatives:
            self._idle(("rho", "shared_gradient"), "share_negatives is false")
        elif getattr(self, "adaptive_beta", "none") == "expert":
            raise ValueError("share_negatives with adaptive_beta: the expert never scored another user's negatives")
        elif getattr(self, "margin_scope", "pair") == "summed":
            raise ValueError("share_negatives with margin_scope 'summed': eq. 17 sums over the user's own list only")
        return self
