"""Where interactions come from: one class a source, told apart by `kind`."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from raypref.config.base import Frozen, variants

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Domain = Literal["movie", "book", "music", "game", "beer", "product"]
TIME_UNITS = ("s", "ms", "us", "ns", "days", "order", "year", "excel", "filetime", "ticks", "webkit")
TIME_FORMATS = (*TIME_UNITS, "day-first", "month-first", "year-first")
SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " "}
SCALE = re.compile(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)")


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


class BadLines(Frozen):
    """How much of a file may be broken."""

    max_bad_lines: Share = 0.01
    """Share of a file's lines that may be broken; they are written to rejected.parquet."""


class FileSource(BadLines):
    """What every source made of files shares."""

    files: ClassVar[tuple[str, ...]] = ()
    """Files that the folder must hold, where they have fixed names."""
    path: Path
    """The file or folder; relative paths are tried under $RAYPREF_DATA too."""


class MovieLens100KSource(FileSource):
    """MovieLens 100K as GroupLens ships it: u.data and u.item."""

    files: ClassVar[tuple[str, ...]] = ("u.data", "u.item")
    kind: Literal["ml-100k"] = "ml-100k"
    path: Path = Path("ml-100k")
    """The folder with u.data and u.item; relative paths are tried under $RAYPREF_DATA too."""


class MovieLensSource(FileSource):
    """MovieLens 1M, 10M (ratings.dat, movies.dat) or 20M, 25M, 32M, latest (ratings.csv, movies.csv)."""

    kind: Literal["movielens"] = "movielens"
    path: Path = Path("ml-1m")
    """The folder with ratings and movies, .dat or .csv; relative paths are tried under $RAYPREF_DATA too."""


class Amazon2018Source(FileSource):
    """Amazon reviews 2018 of one category: gzipped JSON lines of reviews (5-core or all) and of product metadata."""

    kind: Literal["amazon-2018"] = "amazon-2018"
    path: Path = Path("amazon-2018")
    """The folder with both files; relative paths are tried under $RAYPREF_DATA too."""
    category: str = "Movies_and_TV"
    """The category as the files' names spell it: CATEGORY_5.json.gz or CATEGORY.json.gz, and meta_CATEGORY.json.gz."""
    domain: Domain = "product"
    """What the items are: chooses the prompt's words (Books: book; Movies_and_TV: movie)."""
    max_bad_lines: Share = 0.05
    """Share of a file's lines that may be broken; the metadata lack some titles."""


class Amazon2023Source(FileSource):
    """Amazon reviews 2023 of one category: JSON lines of reviews (or the 5-core CSV) and of product metadata."""

    kind: Literal["amazon-2023"] = "amazon-2023"
    path: Path = Path("amazon-2023")
    """The folder with both files; relative paths are tried under $RAYPREF_DATA too."""
    category: str = "Movies_and_TV"
    """The category as the files' names spell it: CATEGORY.jsonl.gz (or .csv.gz) and meta_CATEGORY.jsonl.gz."""
    domain: Domain = "product"
    """What the items are: chooses the prompt's words (Books: book; Movies_and_TV: movie)."""
    max_bad_lines: Share = 0.05
    """Share of a file's lines that may be broken; the metadata lack some titles."""


class SteamSource(FileSource):
    """Steam reviews of SASRec's release: Python literals, one a line; play hours are the strength of a preference."""

    kind: Literal["steam"] = "steam"
    path: Path = Path("steam")
    """The folder with steam_reviews.json.gz and steam_games.json.gz; tried under $RAYPREF_DATA too."""
    max_bad_lines: Share = 0.05
    """Share of a file's lines that may be broken; some games have no name."""


class BeerAdvocateSource(FileSource):
    """BeerAdvocate's multi-aspect reviews: blocks of `key: value` lines; the overall rating counts."""

    kind: Literal["beeradvocate"] = "beeradvocate"
    path: Path = Path("beeradvocate/beeradvocate.txt.gz")
    """The file, gzipped or not; relative paths are tried under $RAYPREF_DATA too."""


class LastFM1KSource(FileSource):
    """LastFM-1K: every play of 992 listeners with its time; a user's plays of an item become one interaction."""

    kind: Literal["lastfm-1k"] = "lastfm-1k"
    path: Path = Path("lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv")
    """The file of plays, gzipped or not; relative paths are tried under $RAYPREF_DATA too."""
    item: Literal["artist", "track"] = "artist"
    """What is recommended."""


class HetrecLastFMSource(FileSource):
    """LastFM of HetRec 2011: play counts without times, so no sequential split."""

    files: ClassVar[tuple[str, ...]] = ("user_artists.dat", "artists.dat")
    kind: Literal["lastfm-hetrec2011"] = "lastfm-hetrec2011"
    path: Path = Path("lastfm-hetrec2011")
    """The folder with user_artists.dat and artists.dat; relative paths are tried under $RAYPREF_DATA too."""


class GoodreadsSource(FileSource):
    """Goodreads (UCSD book graph): gzipped JSON lines of interactions and of books; a rating of 0 means none."""

    kind: Literal["goodreads"] = "goodreads"
    path: Path = Path("goodreads")
    """The folder with both files; relative paths are tried under $RAYPREF_DATA too."""
    genre: str = ""
    """E.g. poetry, for goodreads_interactions_poetry.json.gz and goodreads_books_poetry.json.gz; empty: all books."""


class OwnColumns(Frozen):
    """Which columns of one's own files hold what, and how ratings and times are written in them."""

    rating: str | None = "rating"
    """Column of the rating; none: feedback is implicit."""
    rating_scale: str | None = None
    """Lowest and highest rating as they are written, e.g. 1-10, 0-100, 0-1; none: found in the file. 5 is kept as it
    is; other scales become 0.5 to 5 in proportion, thumbs (0-1) 1 and 5."""
    unrated: tuple[float, ...] | None = None
    """Numbers that stand for "not rated"; none: an empty field, -1, and 0 among whole numbers up to 10."""
    count: str | None = None
    """Column of a count (plays, hours), for implicit feedback."""
    timestamp: str | None = "timestamp"
    """Column of the time; none: the data have no times, unless `order` is rows."""
    time_format: str | None = None
    """How times are written: s, ms, us, ns, days (since 1970), order (a counter), year, excel (days since 1900),
    filetime, ticks, webkit (of Windows, .NET, Chrome), day-first, month-first, year-first, or a pattern such as
    %d.%m.%Y; none: found in the file."""
    order: Literal["time", "rows"] = "time"
    """rows: a user's interactions are in the order of the file's rows, whatever their times."""
    domain: Domain = "product"
    """What the items are: chooses the prompt's words."""

    @field_validator("rating", "count", "timestamp", mode="before")
    @classmethod
    def _none_in_words(cls, value: Any) -> Any:
        """A column called None is none: the command line writes it so, and YAML's `rating: None` is a word."""
        return None if value in ("None", "none", "null", "") else value

    @field_validator("rating_scale")
    @classmethod
    def _is_scale(cls, value: str | None) -> str | None:
        if value is None:
            return None
        match = SCALE.fullmatch(value)
        if match is None or float(match[1]) >= float(match[2]):
            raise ValueError("give the lowest and the highest rating, e.g. 1-10")
        return value

    @field_validator("time_format")
    @classmethod
    def _is_time_format(cls, value: str | None) -> str | None:
        if value is not None and value not in TIME_FORMATS and "%" not in value:
            raise ValueError(f"give one of {', '.join(TIME_FORMATS)}, or a pattern such as %d.%m.%Y")
        return value


class RecBoleSource(OwnColumns, FileSource):
    """RecBole's atomic files, NAME.inter and NAME.item, columns by name."""

    kind: Literal["recbole"] = "recbole"
    path: Path = Path("recbole-ml-100k")
    """The folder with one .inter and one .item file; relative paths are tried under $RAYPREF_DATA too."""
    user: str = "user_id"
    """Column of the user's id."""
    item: str = "item_id"
    """Column of the item's id."""
    title: str | None = None
    """Column of the title in the .item file; none: the first of title, movie_title, name, item_name that is there."""
    domain: Domain = "movie"
    """What the items are: chooses the prompt's words."""


class SDPOJsonSource(FileSource):
    """S-DPO's published examples, NAME-train.json, NAME-val.json, NAME-test.json: ready candidate lists, not a log."""

    kind: Literal["sdpo-json"] = "sdpo-json"
    path: Path = Path("lastfm-sdpo")
    """The folder with the JSON files; relative paths are tried under $RAYPREF_DATA too."""
    candidates: Literal["published", "drawn"] = "published"
    """published: the lists as they are, whose order gives the targets away; drawn: targets among items drawn anew."""
    domain: Domain = "music"
    """What the items are: chooses the prompt's words."""


class LLaRASource(FileSource):
    """LLaRA's data frames (train_data.df, Val_data.df, Test_data.df), id2name.txt or u.item; candidates are drawn."""

    kind: Literal["llara"] = "llara"
    path: Path = Path("llara-lastfm")
    """The folder with the frames; relative paths are tried under $RAYPREF_DATA too."""
    domain: Domain = "music"
    """What the items are: chooses the prompt's words."""


class FileOptions(OwnColumns, BadLines):
    """What one may say about a table of one's own beside its place; what is left unsaid is found in the file."""

    user: str = "user"
    """Column of the user's id."""
    item: str = "item"
    """Column of the item's id."""
    title: str = "title"
    """Column of the item's title, in the file of items if there is one."""
    items: Path | None = None
    """A file of the items' titles (movies.csv); relative paths are tried beside the interactions too. None: the titles
    stand beside the interactions."""
    items_item: str | None = None
    """Column of the item's id in the file of items; none: as `item`."""
    separator: str | None = None
    """What stands between fields: a character or several (;, ::), or tab, comma, semicolon, bar, space; none: found."""
    encoding: str | None = None
    """E.g. utf-8, cp1252, cp1250, gb18030; none: found."""
    header: tuple[str, ...] | None = None
    """Names of all columns in order, where the file does not begin with them."""
    items_header: tuple[str, ...] | None = None
    """The same of the file of items."""

    @field_validator("separator")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        return value if value is None else SEPARATORS.get(value, value)

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except LookupError:
                raise ValueError("no such encoding is known, try utf-8, cp1252 or utf-16") from None
        return value


class CsvSource(FileOptions, FileSource):
    """Your own interactions: a CSV or Parquet file with one row each, and perhaps a file of the items' titles."""

    kind: Literal["csv"] = "csv"
    path: Path = Path("interactions.csv")
    """The file (text with separators, or Parquet, Feather; also gzip, bz2, xz, zstd, zip), or a folder of such parts;
    relative paths are tried under $RAYPREF_DATA too."""


SourceConfig = Annotated[
    GeneratedSource
    | MovieLens100KSource
    | MovieLensSource
    | Amazon2018Source
    | Amazon2023Source
    | SteamSource
    | BeerAdvocateSource
    | LastFM1KSource
    | HetrecLastFMSource
    | GoodreadsSource
    | RecBoleSource
    | SDPOJsonSource
    | LLaRASource
    | CsvSource,
    Field(discriminator="kind"),
]

SOURCE_CONFIGS = variants(SourceConfig, "kind")
"""By kind; their readers are in `raypref.data.sources`."""
