"""What `raypref-tiny` reads: generated users of generated catalogs, as histories and as prompts.

Each catalog is drawn anew and none holds a title of the default data's (`HELD_OUT`): a model that was taught here never
saw a title or a user of what it is tried on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from raypref.config.data import CandidateConfig, DataConfig, PromptConfig
from raypref.config.sources import GeneratedSource
from raypref.data.examples import ExampleBuilder
from raypref.data.filtering import user_ranges
from raypref.data.prompts import DOMAINS, PromptRenderer
from raypref.data.sources.generated import GENRE_TASTE, MOOD_TASTE, generate
from raypref.data.sources.lexicon import GENRES, MOODS
from raypref.data.splitting import LIKED
from raypref.pretraining.lessons import Question

TITLES = frozenset(
    f"{adjective} {noun}"
    for adjectives in MOODS.values()
    for adjective in adjectives
    for nouns in GENRES.values()
    for noun in nouns
)
USERS = 64  # of a catalog
EXAMPLES = 4  # of a user


def held_out() -> frozenset[str]:
    """The titles of the default data, which no catalog of the pretraining holds."""
    return frozenset(generate(GeneratedSource(users=1)).items["title"].to_pylist())


@dataclasses.dataclass(frozen=True)
class Catalog:
    """A catalog with its users."""

    titles: np.ndarray
    examples: ExampleBuilder
    render: PromptRenderer

    def questions(self, split: str = "train") -> Iterator[Question]:
        """Prompts answered with the user's own next liked item."""
        for table in self.examples.shards(split):
            for row in table.to_pylist():
                shown = [str(title) for title in self.titles[row["candidates"]]]
                prompt = self.render(row["example"], self.titles[row["history"]], row["history_rating"], shown)
                liked = [rating >= LIKED for rating in row["rating"]]  # a random candidate's is NaN
                yield Question(prompt, shown[row["target"]], shown, liked)

    def histories(self, longest: int) -> Iterator[str]:
        """The first `longest` items of each user as the beginning of a prompt."""
        starts, lengths = user_ranges(self.examples.user)
        for user, (first, length) in enumerate(zip(starts, lengths)):
            own = slice(first, first + min(longest, length))
            item, rating = self.examples.item[own], self.examples.rating[own].tolist()
            yield "\n".join(self.render.history(user, self.titles[item], rating)) + "\n"


def catalog(
    rng: np.random.Generator,
    candidates: int,
    without: frozenset[str],
    plain: bool = False,
    users: int = USERS,
    among_random: float = 1.0,
    swapped: float = 0.0,
) -> Catalog:
    """A fresh catalog, its prompts with `candidates` candidates each.

    Args:
        without: titles that it must not hold.
        plain: prompts as the default data's are; else of any domain and tier.
        among_random: how likely its prompts hold one item of the user's own, as an evaluation's do; else half are.
        swapped: how likely its users choose by genre as the default data's do by mood, and the reverse.
    """
    items = int(rng.integers(150, 500)) if not plain else min(400, len(TITLES - without))
    source = GeneratedSource(users=users, items=items, seed=int(rng.integers(1 << 31)))
    by_genre = swapped and rng.random() < swapped
    log = generate(source, without, (MOOD_TASTE, GENRE_TASTE) if by_genre else (GENRE_TASTE, MOOD_TASTE))
    own = 1 if plain or rng.random() < among_random else max(candidates // 2, 1)
    config = DataConfig(
        source=source,
        k_core=1,
        candidates=CandidateConfig(train_future=own, train_random=candidates - own, eval_random=candidates - 1),
        max_history=6 if plain else int(rng.integers(3, 13)),
        max_train_examples_per_user=EXAMPLES,
        seed=int(rng.integers(1 << 31)),
    )
    prompt, domain, liked = PromptConfig(), "movie", True
    if not plain:
        items_shown: Any = "full" if rng.random() < 0.85 else "filtered"
        prompt = PromptConfig(ratings=bool(rng.random() < 0.85), items=items_shown)
        domain = "movie" if rng.random() < 0.6 else str(rng.choice(list(DOMAINS)))
        liked = bool(rng.random() < 0.75)
    titles = np.array(log.items["title"].to_pylist(), dtype=object)
    return Catalog(titles, ExampleBuilder(log, config), PromptRenderer(prompt, domain, liked))
