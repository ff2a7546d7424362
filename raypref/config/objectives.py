"""The hyper-parameters of every objective: one class each, told apart by `name`.

A class offers the switches (margin, adaptive beta, shared negatives) that make sense for its loss; for the others it
says why not. Field docstrings are the help that the command line shows. Where each default comes from:
docs/paper_index.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.base import variants
from raypref.config.custom_objective import Custom
from raypref.config.list_objectives import DynamicPo, ListPg, Mppo
from raypref.config.objective_switches import (
    MARGIN_KEYS,
    SHARING_KEYS,
    Beta,
    ExpertBeta,
    Margin,
    NonNegative,
    Objective,
    Positive,
    Scope,
    Sharing,
)

_TWO_BETAS = "the batch sets beta already; two rules for one beta"
_UNSCORED = "the expert never scored another user's negatives, so a shared pair has no beta"
_OWN_MARGIN = "it adapts a margin of its own, and its alpha is that margin's"

_SET_BY_EXPERT = dict.fromkeys(SHARING_KEYS, _UNSCORED) | {"beta": "u_beta and gamma set the beta of each pair"}

Momentum = Annotated[float, Field(ge=0, lt=1)]


class Dpo(Beta, Margin, ExpertBeta, Sharing):
    """DPO (S-DPO eq. 7); with K > 1, S-DPO's "DPO-K negative" baseline."""

    uses_reference: ClassVar[bool] = True
    name: Literal["dpo"] = "dpo"


class Ipo(Margin, ExpertBeta, Sharing):
    """IPO: a squared distance of the reward gap from a target (EAPO eq. 12 with beta = 1)."""

    uses_reference: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {"beta": "tau alone sets the scale of the gap"}
    name: Literal["ipo"] = "ipo"
    tau: Positive = 0.1
    """Regularisation; the reward gap is drawn to 1 / (2 tau)."""
    length_normalised: bool = False
    """Log-probs per token, as TRL's IPO does."""


class Cpo(Beta, Margin, ExpertBeta, Sharing):
    """CPO: DPO without a reference, plus the likelihood of the preferred title (Xu et al. 2024)."""

    uses_reference: ClassVar[bool] = False
    name: Literal["cpo"] = "cpo"
    beta: Positive = 0.1
    """Scale of the reward."""
    c_nll: NonNegative = 1.0
    """Weight of the preferred title's negative log-likelihood per token."""


class Simpo(Beta, Margin, ExpertBeta, Sharing):
    """SimPO: log-probs per token, no reference, a fixed margin (NAPO eq. 6)."""

    uses_reference: ClassVar[bool] = False
    name: Literal["simpo"] = "simpo"
    gamma0: NonNegative = 2.0
    """Fixed margin that the reward gap must exceed."""


class Rosepo(Beta, Margin, ExpertBeta, Sharing):
    """RosePO: DPO that allows for a share epsilon of pairs whose label is wrong (NAPO table 1)."""

    uses_reference: ClassVar[bool] = True
    name: Literal["rosepo"] = "rosepo"
    smoothing: Literal["constant", "expert"] = "constant"
    """`constant`: epsilon for all pairs; `expert`: sigmoid(S_k - S_p) of each pair's expert scores, at most 1/2."""
    epsilon: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of pairs whose label is wrong; 0 is DPO."""

    @property
    def columns(self) -> tuple[str, ...]:
        own = () if self.smoothing == "constant" else ("expert_score_pos", "expert_score_neg")
        return tuple(dict.fromkeys(super().columns + own))

    @model_validator(mode="after")
    def _smoothing_makes_sense(self) -> Self:
        if self.smoothing == "expert":
            self._idle(("epsilon",), "smoothing is 'expert'")
            if self.share_negatives:
                raise ValueError("share_negatives with smoothing 'expert': the expert never scored a shared pair")
        return self


class Dmpo(Beta, Margin, ExpertBeta, Sharing):
    """DMPO: the preferred title against the average of the dispreferred ones (Bai et al. 2024, corrected)."""

    uses_reference: ClassVar[bool] = True
    name: Literal["dmpo"] = "dmpo"


class Sdpo(Beta, Margin, ExpertBeta, Sharing):
    """S-DPO: one preferred title against K dispreferred ones at once (S-DPO eq. 11)."""

    uses_reference: ClassVar[bool] = True
    listwise: ClassVar[bool] = True
    name: Literal["sdpo"] = "sdpo"


class SimsDpo(Beta, Margin, ExpertBeta, Sharing):
    """SimS-DPO: S-DPO without a reference (NAPO table 3)."""

    uses_reference: ClassVar[bool] = False
    listwise: ClassVar[bool] = True
    name: Literal["sims-dpo"] = "sims-dpo"


class Recpo(Beta, Margin, ExpertBeta, Sharing):
    """RecPO: S-DPO with a margin from ratings and latencies (RecPO eq. 5 and 7)."""

    uses_reference: ClassVar[bool] = True
    listwise: ClassVar[bool] = True
    name: Literal["recpo"] = "recpo"
    margin: Literal["ratio", "log_ratio", "log_diff"] = "ratio"
    """Margin of a pair of utilities (RecPO eq. 4 and table 2)."""


class Napo(Beta, Sharing):
    """NAPO: shared negatives, and a margin from the expert's confidence in them (NAPO eq. 11, 12, 16, 17)."""

    uses_reference: ClassVar[bool] = False
    listwise: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = dict.fromkeys(MARGIN_KEYS, _OWN_MARGIN) | {"adaptive_beta": _UNSCORED}
    name: Literal["napo"] = "napo"
    share_negatives: bool = True
    """Add the negatives of similar users of the global batch to each user's own; `false` is the ablation "w/o NS"."""
    gamma0: NonNegative = 1.0
    """Margin at average confidence; 0 is the ablation "w/o gamma"."""
    alpha: NonNegative = 0.3
    """How strongly the margin follows the batch's mean confidence; 0 is the ablation "w/o dynamic gamma"."""
    momentum: Momentum = 0.9
    """Momentum m of the confidence threshold R0."""
    length_normalised: bool = False
    """Log-probs per token: the ablation "w/ length norm"."""

    @property
    def scope(self) -> Scope:
        return "batch"

    @property
    def columns(self) -> tuple[str, ...]:
        return super().columns + ("expert_confidence_neg",)


class Eapo(Margin, ExpertBeta):
    """EAPO: DPO with a beta of each pair from the expert (EAPO eq. 10)."""

    uses_reference: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = _SET_BY_EXPERT
    name: Literal["eapo"] = "eapo"
    adaptive_beta: Literal["expert"] = "expert"
    """Beta of each pair grows with the expert's preference gap (EAPO eq. 9)."""


class EaSdpo(Margin, ExpertBeta):
    """EA-SDPO: S-DPO with a beta of each pair from the expert (EAPO eq. 11)."""

    uses_reference: ClassVar[bool] = True
    listwise: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = _SET_BY_EXPERT
    name: Literal["ea-sdpo"] = "ea-sdpo"
    adaptive_beta: Literal["expert"] = "expert"
    """Beta of each pair grows with the expert's preference gap (EAPO eq. 9)."""


class EaIpo(Margin, ExpertBeta):
    """EA-IPO: IPO with a beta of each pair from the expert (EAPO eq. 12)."""

    uses_reference: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = _SET_BY_EXPERT
    name: Literal["ea-ipo"] = "ea-ipo"
    adaptive_beta: Literal["expert"] = "expert"
    """Beta of each pair grows with the expert's preference gap (EAPO eq. 9)."""
    tau: Positive = 0.1
    """Regularisation; beta_k times the reward gap is drawn to 1 / (2 tau)."""
    length_normalised: bool = False
    """Log-probs per token, as TRL's IPO does."""


class EaCpo(Margin, ExpertBeta):
    """EA-CPO: CPO with a beta of each pair from the expert (EAPO eq. 11)."""

    uses_reference: ClassVar[bool] = False
    refuses: ClassVar[dict[str, str]] = _SET_BY_EXPERT
    name: Literal["ea-cpo"] = "ea-cpo"
    adaptive_beta: Literal["expert"] = "expert"
    """Beta of each pair grows with the expert's preference gap (EAPO eq. 9)."""
    c_nll: NonNegative = 1.0
    """Weight of the preferred title's negative log-likelihood per token."""


class AlphaDpo(Beta):
    """alpha-DPO: SimPO whose margin follows how far each pair has moved from the reference (Wu et al. 2024)."""

    uses_reference: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = (
        dict.fromkeys(MARGIN_KEYS, _OWN_MARGIN)
        | dict.fromkeys(SHARING_KEYS, "its gap to the reference is standardised over a user's own pairs")
        | dict.fromkeys(("adaptive_beta", "u_beta"), "its gap is standardised over pairs of one and the same beta")
    )
    name: Literal["alpha-dpo"] = "alpha-dpo"
    beta: Positive = 2.5
    """Scale of the reward."""
    gamma0: NonNegative = 1.5
    """Margin of a pair of average gap."""
    alpha: NonNegative = 0.5
    """How strongly the margin follows the standardised gap of policy and reference; 0 is SimPO."""
    momentum: Momentum = 0.9
    """Momentum of the running mean and standard deviation of the gap."""
    length_normalised: bool = True
    """Log-probs per token, as in SimPO; `false` sums them."""

    @property
    def scope(self) -> Scope:
        return "batch"

    @property
    def stops_gradient(self) -> bool:
        return True


class BetaDpo(Beta, Margin):
    """beta-DPO: DPO whose beta follows the batch's mean reward gap, outliers left out (Wu et al. 2024)."""

    uses_reference: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = dict.fromkeys(
        SHARING_KEYS, "its beta and its filter read the gaps of a user's own pairs"
    ) | dict.fromkeys(("adaptive_beta", "u_beta", "gamma"), _TWO_BETAS)
    name: Literal["beta-dpo"] = "beta-dpo"
    beta: Positive = 0.1
    """Beta of a batch of average gap; with a reference, the strength of the pull towards it."""
    a: NonNegative = 0.6
    """How strongly beta follows the batch's mean gap; 0 is DPO."""
    momentum: Momentum = 0.9
    """Momentum of the running mean and standard deviation of the gap."""
    filter_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share rho_f of the batch's pairs left out, drawn so that gaps far from the running mean go first; 0 is none."""
    filter_seed: int = 0
    """Seed of that draw."""

    @property
    def scope(self) -> Scope:
        return "batch"

    @property
    def stops_gradient(self) -> bool:
        return True

    @property
    def draws(self) -> bool:
        return self.filter_share > 0


ObjectiveConfig = Annotated[
    Dpo
    | Ipo
    | Cpo
    | Simpo
    | Rosepo
    | Dmpo
    | Sdpo
    | SimsDpo
    | Recpo
    | Napo
    | Eapo
    | EaSdpo
    | EaIpo
    | EaCpo
    | AlphaDpo
    | BetaDpo
    | Mppo
    | DynamicPo
    | ListPg
    | Custom,
    Field(discriminator="name"),
]

OBJECTIVE_CONFIGS = variants(ObjectiveConfig, "name")
"""By name; the functions that they configure are in `raypref.objectives`, which imports torch."""

__all__ = ["OBJECTIVE_CONFIGS", "Objective", "ObjectiveConfig"]
