"""What is learned from, and how it is cut: sources, filtering, splits, candidates, prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raypref.config.base import Frozen

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Domain = Literal["movie", "book", "music", "game", "beer", "product"]


class GeneratedSource(Frozen):
    """A made-up movie catalog and its viewers: graded tastes that drift, ratings 1 to 5, timestamps. Needs no files."""

    kind: Literal["generated"] = "generated"
    users: Count = 800
    """Number of users."""
    items: Annotated[int, Field(ge=40, le=4000)] = 400
    """Number of items."""
    mean_length: Annotated[int, Field(ge=8)] = 32
    """Mean number of interactions of a user."""
    seed: int = 0
    """Seed of the catalog, the tastes and the log."""


class MovieLens100KSource(Frozen):
    """MovieLens 100K as GroupLens ships it: u.data and u.item."""

    kind: Literal["ml-100k"] = "ml-100k"
    path: Path = Path("ml-100k")
    """The folder with u.data and u.item; relative paths are tried under $RAYPREF_DATA too."""
    max_bad_lines: Share = 0.01
    """Share of broken lines that is tolerated; they are written to rejected.parquet."""


class CsvSource(Frozen):
    """Your own interactions: a CSV or Parquet file with one row each."""

    kind: Literal["csv"] = "csv"
    path: Path = Path("interactions.csv")
    """The file; relative paths are tried under $RAYPREF_DATA too."""
    user: str = "user"
    """Column of the user's id."""
    item: str = "item"
    """Column of the item's id."""
    title: str = "title"
    """Column of the item's title."""
    rating: str | None = "rating"
    """Column of the rating, 1 to 5; none: feedback is implicit."""
    timestamp: str | None = "timestamp"
    """Column of the time: Unix seconds or an ISO date."""
    domain: Domain = "product"
    """What the items are: chooses the prompt's words."""
    max_bad_lines: Share = 0.01
    """Share of broken lines that is tolerated; they are written to rejected.parquet."""


SourceConfig = Annotated[GeneratedSource | MovieLens100KSource | CsvSource, Field(discriminator="kind")]


class CandidateConfig(Frozen):
    """How the list that the model chooses from is drawn (RecPO section 5.1)."""

    train_future: Count = 10
    """Training: subsequent items of the user's own sequence, target included."""
    train_random: Annotated[int, Field(ge=0)] = 10
    """Training: random items that the user never interacted with."""
    eval_random: Count = 19
    """Evaluation: random never-interacted items beside the target (S-DPO and EAPO: 20)."""


class DataConfig(Frozen):
    """From a raw log to preference examples."""

    source: SourceConfig = GeneratedSource()
    """Where the log comes from."""
    k_core: Count = 5
    """Users and items with fewer interactions are dropped until none is left (RecPO: 5 or 20; S-DPO: 20)."""
    split: Literal["leave-last-two", "user", "time"] = "leave-last-two"
    """leave-last-two: RecPO. user: sequences 8:1:1 (S-DPO, NAPO). time: one global cut 8:1:1 (EAPO)."""
    target: Literal["recpo", "next"] = "recpo"
    """recpo: the next item, if it is rated 4 or 5. next: the next item whatever its rating."""
    min_history: Count = 3
    """Interactions before an example's cut, at least."""
    max_history: Count = 10
    """Interactions before the cut that a prompt may show, the latest ones."""
    max_train_examples_per_user: Count | None = None
    """Only so many training examples of each user, the latest ones; none: all."""
    candidates: CandidateConfig = CandidateConfig()
    """How candidates are drawn."""
    seed: int = 0
    """Seed of candidates, their order, the user split and the order of training examples."""


class PromptConfig(Frozen):
    """How an example becomes text (RecPO section 4.1 and figure 5)."""

    ratings: bool = True
    """Show the ratings of the history (RecPO section 3, the "structured" tiers)."""
    items: Literal["full", "filtered"] = "full"
    """full: the whole history. filtered: only items rated 4 or 5 (RecPO section 3, the "filtered" tiers)."""
    templates: Count = 3
    """How many wordings of the task are in use; one is drawn per example."""
    max_tokens: Annotated[int, Field(ge=64)] = 1024
    """Longer prompts lose their oldest history lines."""
