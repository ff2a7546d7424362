"""What tells one system from another wherever that matters: an entry each; its stages are in `stages/chain.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True)
class System:
    """What is evaluated."""

    seed: str | None
    """The config key that repetitions vary; None where no seed changes the result."""
    varied: str = "system"
    """The config key whose value names what such a run is of, as a method of a study."""
    bound: str = ""
    """Why it can't be asked about another data set; empty: it can, as it reads titles and nothing else."""
    recommender: bool = False
    """It knows items by number, and is no language model."""
    behaviour: bool = False
    """Its prompts hold behavioural tokens, which are made from the expert and have no text."""
    questions: bool = False
    """It answers Yes or No about one title at a time."""
    chat: bool = False
    """It is asked over the network, and gives no probabilities."""


OWN_ITEMS = "knows no items but its own"
SYSTEMS = {
    "aligned": System("align.seed", "align.objective.name"),
    "sft": System("sft.seed"),
    "zero-shot": System(None),
    "baseline": System("baseline.seed", "baseline.recommender", OWN_ITEMS, recommender=True),
    "chatrec": System(None, bound="learns from none: name it as data", chat=True),
    "tallrec": System("sft.seed", questions=True),
    "llara": System("sft.seed", bound=OWN_ITEMS, behaviour=True),
}
if TYPE_CHECKING:
    SystemName = str
else:
    SystemName = Literal[tuple(SYSTEMS)]
