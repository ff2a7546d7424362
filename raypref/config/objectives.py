"""The hyper-parameters of every objective: one class each, told apart by `name`.

Field docstrings are the help that the command line shows. Sources: docs/paper_index.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from raypref.config.base import Frozen

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Dpo(Frozen):
    """DPO, and S-DPO's "DPO-K negative" baseline when K > 1 (S-DPO eq. 7)."""

    uses_reference: ClassVar[bool] = True
    name: Literal["dpo"] = "dpo"
    beta: Positive = 1.0
    """Strength of the pull towards the reference."""


class Sdpo(Frozen):
    """S-DPO: one preferred title against K dispreferred ones at once (S-DPO eq. 11)."""

    uses_reference: ClassVar[bool] = True
    name: Literal["sdpo"] = "sdpo"
    beta: Positive = 1.0
    """Strength of the pull towards the reference."""


class Recpo(Frozen):
    """RecPO: S-DPO with a margin from ratings and latencies (RecPO eq. 5 and 7)."""

    uses_reference: ClassVar[bool] = True
    name: Literal["recpo"] = "recpo"
    beta: Positive = 1.0
    """Strength of the pull towards the reference."""
    lambda_: NonNegative = Field(2.0, alias="lambda")
    """Weight of the margin (RecPO eq. 4); 0 is S-DPO."""
    alpha: Positive = 0.5
    """Temporal decay of an item's utility, score / latency^alpha."""
    margin: Literal["ratio", "log_ratio", "log_diff"] = "ratio"
    """Margin of a pair of utilities (RecPO table 2)."""
    margin_sign: Literal["derived", "as_printed"] = "derived"
    """`derived`: the margin is a handicap of the preferred item (eq. 5, 17 and the published code); `as_printed`: eq. 7."""
    margin_scope: Literal["pair", "summed"] = "pair"
    """`pair`: each term carries its own margin (eq. 7); `summed`: each carries the sum of the list's (eq. 17)."""
    default_score: Positive = 3.0
    """Score of a random negative, which the user never rated."""
    default_latency: Annotated[float, Field(ge=1)] = 11.0
    """Latency, in steps, of a random negative, which the user never reached."""


ObjectiveConfig = Annotated[Dpo | Sdpo | Recpo, Field(discriminator="name")]
