"""Hyper-parameters of the losses that look at a prompt's list as a whole (`raypref.objectives.list_losses`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raypref.config.objective_switches import (
    MARGIN_KEYS,
    SHARING_KEYS,
    Beta,
    NonNegative,
    Objective,
    Positive,
)

_BETA_KEYS = ("adaptive_beta", "u_beta", "gamma")


class Mppo(Beta):
    """MPPO: average likelihoods of the preferred title against all its negatives, no reference (COLING 2025)."""

    uses_reference: ClassVar[bool] = False
    refuses: ClassVar[dict[str, str]] = (
        dict.fromkeys(MARGIN_KEYS, "it compares likelihoods, at most 1 apart; a margin in nats is of another scale")
        | dict.fromkeys(_BETA_KEYS, "the expert's betas are made for gaps in nats; it compares likelihoods")
        | dict.fromkeys(SHARING_KEYS, "it counts the user's own K negatives against its preferred title")
    )
    name: Literal["mppo"] = "mppo"


class DynamicPo(Beta):
    """DynamicPO: only negatives at the policy's boundary, a beta of each by how near it is (arXiv 2605.00327)."""

    refuses: ClassVar[dict[str, str]] = (
        dict.fromkeys(MARGIN_KEYS, "its boundary is drawn by log-probs alone; a margin would move what it compares")
        | dict.fromkeys(_BETA_KEYS, "the boundary sets the beta of each negative already; two rules for one beta")
        | dict.fromkeys(SHARING_KEYS, "its boundary lies between a user's own titles")
    )
    name: Literal["dynamicpo"] = "dynamicpo"
    base: Literal["dmpo", "sdpo", "mppo"] = "dmpo"
    """The loss over the negatives that are chosen: their average (DMPO), a list (S-DPO), likelihoods (MPPO)."""

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]  # a fact of the class for most
        return self.base != "mppo"

    @property
    def stops_gradient(self) -> bool:
        return True


class ListPg(Objective):
    """Exact policy gradient over the list: the expectation of REINFORCE or GRPO, without sampling an answer."""

    refuses: ClassVar[dict[str, str]] = (
        dict.fromkeys(("margin", "lambda", "margin_sign", "margin_scope"), "it compares no pairs: reward 'utility'")
        | dict.fromkeys(_BETA_KEYS, "it compares no pairs: reward 'expert' reads the expert's scores")
        | dict.fromkeys(SHARING_KEYS, "its list is one prompt's; another user's titles are no answers to it")
        | {"beta": "beta_kl is its pull towards the reference, temperature the scale of log-probs"}
    )
    name: Literal["list-pg"] = "list-pg"
    over: Literal["list", "all"] = "list"
    """`list`: probabilities among the list's titles, softmax(log-probs / temperature); `all`: among all answers, so
    that what is said outside the list has reward 0, and validity is learned too."""
    temperature: Positive = 1.0
    """Of the softmax over the list."""
    reward: Literal["target", "utility", "expert", "expert-rank"] = "target"
    """Of each title: 1 for the target, else 0; RecPO's rating / latency^alpha; the expert's score; 1 / log2(1 + rank)
    by the expert's score."""
    advantage: Literal["centred", "standardised"] = "centred"
    """`centred`: the reward less its expectation; `standardised`: over its standard deviation too, as GRPO does."""
    beta_kl: NonNegative = 0.0
    """Weight of the divergence from the reference over the list; 0 needs no reference."""
    alpha: Positive = 0.5
    """Temporal decay of reward `utility`."""
    default_score: Positive = 3.0
    """Score of a random negative, which the user never rated, for reward `utility`."""
    default_latency: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 11.0
    """Latency, in steps, of a random negative, which the user never reached, for reward `utility`."""

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]  # a fact of the class for most
        return self.beta_kl > 0

    @property
    def columns(self) -> tuple[str, ...]:
        read = {"utility": ("rating", "latency"), "expert": ("expert_score",), "expert-rank": ("expert_score",)}
        return tuple(f"{name}_{side}" for name in read.get(self.reward, ()) for side in ("pos", "neg"))

    @property
    def stops_gradient(self) -> bool:
        return self.advantage == "standardised"

    @model_validator(mode="after")
    def _rewards_make_sense(self) -> Self:
        if self.over == "all":
            self._idle(("temperature",), "over is 'all': probabilities of answers as they are")
        if self.reward != "utility":
            self._idle(("alpha", "default_score", "default_latency"), f"reward is '{self.reward}'")
        return self
