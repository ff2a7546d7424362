"""MovieLens 1M and 10M (`ratings.dat`, fields between `::`) and 20M, 25M, 32M, latest (`ratings.csv`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import MovieLensSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.lines import line_blocks
from raypref.data.sources.movie_titles import clean_titles
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, Sink
from raypref.errors import UserError

RATING_FIELDS = ("userId", "movieId", "rating", "timestamp")
MOVIE_FIELDS = ("movieId", "title", "genres")
DAT = (Layout("::", RATING_FIELDS), Layout("::", MOVIE_FIELDS))
CSV = (Layout(",", RATING_FIELDS, "expected"), Layout(",", MOVIE_FIELDS, "expected", quoted=True))


def read_movielens(config: MovieLensSource) -> Log:
    """Read the folder; whether it is .dat or .csv is seen from its files."""
    folder = find(config.path, "MovieLens")
    kind = next((kind for kind in ("dat", "csv") if (folder / f"ratings.{kind}").is_file()), None)
    if kind is None:
        raise UserError(
            "MovieLens: the folder lacks ratings.dat or ratings.csv",
            where=str(folder.absolute()),
            hint="unpack the whole data set there (for MovieLens 100K take the source ml-100k)",
        )
    find(config.path, "MovieLens", (f"ratings.{kind}", f"movies.{kind}"))
    ratings, movies = DAT if kind == "dat" else CSV
    file = folder / f"ratings.{kind}"
    interactions = Sink(file, config.max_bad_lines, INTERACTION_ROWS)
    for rows in DelimitedFile(file, ratings).rows(RATING_FIELDS):
        interactions.add(
            rows,
            user_id=rows.text_of("userId", "user"),
            item_id=rows.text_of("movieId", "movie"),
            rating=rows.rating_of("rating"),
            timestamp=rows.seconds_of("timestamp"),
        )
    file = folder / f"movies.{kind}"
    items = Sink(file, config.max_bad_lines, ITEM_ROWS)
    for rows in DelimitedFile(file, _in_its_encoding(file, movies)).rows(MOVIE_FIELDS):
        title = rows.title_of("title")
        items.add(rows, item_id=rows.text_of("movieId", "movie"), title=title, metadata=_genres(rows.columns["genres"]))
    return log_of_files(folder.name, "movie", config.max_bad_lines, interactions.finish(), clean_titles(items.finish()))


def _in_its_encoding(file: Path, layout: Layout) -> Layout:
    """The 1M release is latin-1, the later ones are UTF-8; many bytes that aren't UTF-8 tell which."""
    garbled = sum(int(block.garbled.sum()) for block in line_blocks(file, "utf-8"))
    return Layout(layout.delimiter, layout.names, layout.header, "latin-1" if garbled > 1 else "utf-8", layout.quoted)


def _genres(column: pa.Array) -> pa.Array:
    """`Comedy|Drama` as JSON."""
    quoted = pc.replace_substring_regex(column.fill_null(""), r'["\\]', "")
    listed = pc.replace_substring(quoted, "|", '","')
    return pc.binary_join_element_wise('{"genres":["', listed, '"]}', "")
