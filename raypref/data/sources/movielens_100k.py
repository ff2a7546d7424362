"""MovieLens 100K: `u.data` (user, item, rating, time; tabs) and `u.item` (id|title|...|genres as 0 and 1, latin-1)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from raypref.config.sources import MovieLens100KSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.movie_titles import clean_titles
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, Sink

RATINGS = Layout("\t", ("user", "item", "rating", "timestamp"), encoding="latin-1")
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
MOVIES = Layout("|", ("item", "title", *(f"field {i}" for i in range(3, 6)), *GENRES), encoding="latin-1")


def read_movielens_100k(config: MovieLens100KSource) -> Log:
    """Read the folder; broken lines are refused one by one and counted."""
    folder = find(config.path, "MovieLens 100K", config.files)
    interactions = Sink(folder / "u.data", config.max_bad_lines, INTERACTION_ROWS)
    for rows in DelimitedFile(folder / "u.data", RATINGS).rows(RATINGS.names):
        interactions.add(
            rows,
            user_id=rows.text_of("user", "user"),
            item_id=rows.text_of("item", "item"),
            rating=rows.number_of("rating", "rating", 1, 5),
            timestamp=rows.seconds_of("timestamp"),
        )
    items = Sink(folder / "u.item", config.max_bad_lines, ITEM_ROWS)
    for rows in DelimitedFile(folder / "u.item", MOVIES).rows(("item", "title", *GENRES)):
        metadata = _genres(rows.columns)
        items.add(rows, item_id=rows.text_of("item", "item"), title=rows.title_of("title"), metadata=metadata)
    return log_of_files("ml-100k", "movie", config.max_bad_lines, interactions.finish(), clean_titles(items.finish()))


def _genres(columns: Mapping[str, pa.Array]) -> pa.Array:
    """The genres whose flag is 1, as JSON; `unknown` is none."""
    flags = zip(*(columns[name].to_pylist() for name in GENRES[1:]))
    named = ([name for name, flag in zip(GENRES[1:], row) if flag == "1"] for row in flags)
    return pa.array([json.dumps({"genres": names}) for names in named], pa.string())
