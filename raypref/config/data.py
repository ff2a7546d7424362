"""How a log becomes examples and prompts: filtering, splits, candidates, templates; the sources are in sources.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raypref.config.base import Frozen
from raypref.config.sources import GeneratedSource, SourceConfig

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class CandidateConfig(Frozen):
    """How the list that the model chooses from is drawn (RecPO section 5.1)."""

    train_future: Count = 10
    """Training: subsequent items of the user's own sequence, target included."""
    train_random: Annotated[int, Field(ge=0)] = 10
    """Training: random items that the user never interacted with."""
    eval_random: Count = 19
    """Evaluation: random never-interacted items beside the target (S-DPO and EAPO: 20)."""


class CutConfig(Frozen):
    """How a log is cut into preference examples."""

    k_core: Count = 5
    """Users and items with fewer interactions are dropped until none is left (RecPO: 5 or 20; S-DPO: 20)."""
    split: Literal["leave-last-two", "user", "time"] = "leave-last-two"
    """leave-last-two: RecPO. user: sequences 8:1:1 (S-DPO, NAPO). time: one global cut 8:1:1 (EAPO)."""
    target: Literal["recpo", "next", "utility"] = "recpo"
    """recpo: the next item, if it is rated 4 or 5. next: the next item whatever its rating. utility (RecPO's published
    data code): in training the subsequent item of greatest rating / latency^0.5, if it is rated 4 or 5; validation and
    test ask for the next item."""
    held_out_targets: Literal["last", "all"] = "last"
    """split user only: evaluate a held-out user's last target, or each one (as S-DPO's published files do)."""
    cold_users: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of users withheld from training for the cold-user set."""
    cold_items: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of items withheld from training for the cold-item set."""
    min_history: Count = 3
    """Interactions before an example's cut, at least."""
    max_history: Count = 10
    """Interactions before the cut that a prompt may show, the latest ones."""
    max_train_examples_per_user: Count | None = None
    """Only so many training examples of each user, the latest ones; none: all."""
    max_title: Annotated[int, Field(ge=8)] | None = None
    """Characters of a title; a longer one is cut, at a word's end where it can be, or left out (`long_titles`); none:
    titles are as they are."""
    candidates: CandidateConfig = CandidateConfig()
    """How candidates are drawn."""
    seed: int = 0
    """Seed of candidates, their order, the user split, what is withheld, and the order of training examples."""


class DataConfig(CutConfig):
    """From a raw log to preference examples."""

    source: SourceConfig = GeneratedSource()
    """Where the log comes from."""
    max_users: Count | None = None
    """Only so many users, drawn at random by `seed`; none: all."""
    long_titles: Literal["cut", "leave-out"] = "cut"
    """What becomes of titles longer than `max_title`. leave-out: their items go, with all interactions."""


class PromptConfig(Frozen):
    """How an example becomes text (RecPO section 4.1 and figure 5)."""

    ratings: bool = True
    """Show the ratings of the history (RecPO section 3, the "structured" tiers)."""
    items: Literal["full", "filtered"] = "full"
    """full: the whole history. filtered: only items rated 4 or 5 (RecPO section 3, the "filtered" tiers)."""
    candidates: Literal["listed", "none"] = "listed"
    """listed: the prompt shows the titles to choose from. none: it shows the history alone, and any title of the
    catalog may be the answer; candidates are still scored, ranked and drawn as negatives."""
    templates: Count = 3
    """How many wordings of the task are in use; one is drawn per example."""
    max_tokens: Annotated[int, Field(ge=64)] = 1024
    """Longer prompts lose their oldest history lines."""
    chat: bool = True
    """Put the prompt into the model's own chat template, as the user's message; of no effect where it has none."""
