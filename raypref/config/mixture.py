"""A weighted sum of losses: what `align.objectives` asks for."""

from __future__ import annotations

from typing import Literal

from raypref.config.base import Frozen
from raypref.config.objective_switches import Objective, Positive, Scope

SFT = "sft"
"""The name of the supervised term in a mixture: the preferred title's negative log-likelihood per token."""


class Part(Frozen):
    """One loss of a mixture."""

    name: str
    weight: Positive
    objective: Objective | None
    """Its hyper-parameters; none: the supervised term."""


class Mixture(Objective):
    """Several losses at once, each with a weight; it reads all that any of them reads."""

    name: Literal["mixture"] = "mixture"
    parts: tuple[Part, ...]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The parts that are preference losses."""
        return tuple(part.objective for part in self.parts if part.objective is not None)

    @property
    def uses_reference(self) -> bool:  # type: ignore[override]  # a fact of the class for most
        return any(each.uses_reference for each in self.objectives)

    @property
    def scope(self) -> Scope:
        return "batch" if any(each.scope == "batch" for each in self.objectives) else "example"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for each in self.objectives for name in each.columns))

    @property
    def stops_gradient(self) -> bool:
        return any(each.stops_gradient for each in self.objectives)

    @property
    def draws(self) -> bool:
        return any(each.draws for each in self.objectives)
