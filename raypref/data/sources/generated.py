"""A made-up movie catalog and its viewers, so that every command runs without a file.

Structure worth learning: a title's noun tells its genre, its adjective its mood, so titles that never met in training
still carry meaning. A user likes few genres and moods; the taste drifts; what was liked lately pulls the next choice
towards its genre, what was disliked pushes away from it; exposure follows popularity, so users also meet films they
rate 1 or 2. That gives ratings, order and recency each something to say about the next item.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import islice

import numpy as np
import pyarrow as pa

from raypref.config.sources import GeneratedSource
from raypref.data.canonical import canonical
from raypref.data.schema import Log
from raypref.data.sources.lexicon import GENRES, MOODS

USERS_AT_ONCE = 4096  # bounds the (users, items) table of utilities
GENRE_TASTE, MOOD_TASTE = 1.2, 3.0  # spread of the users' log-odds over genres and moods
DRIFT = 0.12  # random step of the taste between two interactions
PULL = 1.3  # log-odds that a rating of 5 adds to its genre for the next choice, and 1 takes away
PULL_DECAY = 0.6
POPULARITY = 0.7  # spread of the items' log-popularity
CHOICE_NOISE = 1.0  # Gumbel scale of the choice
RATING_NOISE = 0.6
HALF_DAY = 43_200


def generate(
    config: GeneratedSource, without: Collection[str] = (), tastes: tuple[float, float] = (GENRE_TASTE, MOOD_TASTE)
) -> Log:
    """The catalog and log of `config`; the same seed gives the same tables.

    Args:
        without: titles that the catalog must not hold; the rest has to suffice.
        tastes: spread of the users' log-odds over genres and over moods.
    """
    rng = np.random.default_rng(config.seed)
    genre, mood, titles = _catalog(rng, config.items, without)
    popularity = POPULARITY * rng.standard_normal(config.items)
    parts = []
    for first in range(0, config.users, USERS_AT_ONCE):
        count = min(USERS_AT_ONCE, config.users - first)
        user, item, rating, time = _views(rng, count, config.mean_length, genre, mood, popularity, tastes)
        parts.append((user + first, item, rating, time))
    user, item, rating, time = (np.concatenate(column) for column in zip(*parts))
    genres, moods = list(GENRES), list(MOODS)
    return canonical(
        "generated",
        "movie",
        pa.table(
            {
                "user_id": np.char.mod("u%07d", user),
                "item_id": np.char.mod("m%05d", item),
                "rating": rating.astype(np.float32),
                "count": pa.nulls(len(user), pa.float32()),
                "timestamp": time,
            }
        ),
        pa.table(
            {
                "item_id": np.char.mod("m%05d", np.arange(config.items)),
                "title": titles,
                "metadata": [json.dumps({"genre": genres[g], "mood": moods[m]}) for g, m in zip(genre, mood)],
            }
        ),
    )


def _catalog(rng: np.random.Generator, size: int, without: Collection[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Genre and mood (size,) and the titles of `size` distinct adjective-noun pairs."""
    nouns = [(g, noun) for g, words in enumerate(GENRES.values()) for noun in words]
    adjectives = [(m, adjective) for m, words in enumerate(MOODS.values()) for adjective in words]
    pairs = rng.permutation(len(nouns) * len(adjectives))
    both = ((adjectives[p % len(adjectives)], nouns[p // len(adjectives)]) for p in pairs)
    chosen = list(islice((pair for pair in both if f"{pair[0][1]} {pair[1][1]}" not in without), size))
    genre = np.array([g for _, (g, _) in chosen])
    mood = np.array([m for (m, _), _ in chosen])
    return genre, mood, [f"{adjective} {noun}" for (_, adjective), (_, noun) in chosen]


def _views(
    rng: np.random.Generator,
    users: int,
    mean_length: int,
    genre: np.ndarray,
    mood: np.ndarray,
    popularity: np.ndarray,
    tastes: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Interactions of `users` users as flat columns (user, item, rating, time)."""
    items = len(popularity)
    longest = items // 2
    length = np.clip(rng.geometric(1 / max(mean_length - 7, 1), users) + 7, 8, longest)
    likes_genre = tastes[0] * rng.standard_normal((users, len(GENRES)))
    likes_mood = tastes[1] * rng.standard_normal((users, len(MOODS)))
    pull = np.zeros_like(likes_genre)
    strictness = 0.4 * rng.standard_normal(users)
    clock = 1_000_000_000 + rng.integers(0, 365 * 86_400, users)
    seen = np.zeros((users, items), dtype=bool)
    rows = []
    for step in range(int(length.max())):
        live = np.flatnonzero(length > step)
        taste = likes_genre[live][:, genre] + likes_mood[live][:, mood]
        utility = taste + pull[live][:, genre] + popularity + CHOICE_NOISE * rng.gumbel(size=(len(live), items))
        item = np.where(seen[live], -np.inf, utility).argmax(axis=1)
        liking = taste[np.arange(len(live)), item] - strictness[live] + RATING_NOISE * rng.standard_normal(len(live))
        rating = np.clip(np.rint(1.6 + 0.62 * liking), 1, 5)
        clock[live] += rng.geometric(0.3, len(live)) * HALF_DAY + rng.integers(0, 3600, len(live))
        rows.append((live, item, rating, clock[live].copy()))
        seen[live, item] = True
        pull[live] *= PULL_DECAY
        pull[live, genre[item]] += PULL * (rating - 3) / 2
        likes_genre[live] += DRIFT * rng.standard_normal((len(live), len(GENRES)))
    user, item, rating, time = (np.concatenate(column) for column in zip(*rows))
    return user, item, rating, time
