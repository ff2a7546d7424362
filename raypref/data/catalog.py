"""The catalog of public data sets: where each comes from, under which terms, and what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raypref.config import sources
from raypref.config.sources import FileSource

GROUPLENS = "https://files.grouplens.org/datasets"
UCSD = "https://mcauleylab.ucsd.edu/public_datasets"
GROUPLENS_TERMS = "research only, no redistribution, no commercial use; acknowledge it (README of the data set)"
UCSD_TERMS = "academic use only, no redistribution, no commercial use; cite the papers"


@dataclass(frozen=True)
class DataSet:
    """A public data set and the source that reads it."""

    title: str
    source: FileSource
    """How to read it; its path is where `download` puts it."""
    addresses: tuple[str, ...]
    """What to fetch; empty: only by hand."""
    licence: str
    paper: str
    checksum: str = ""
    """Address of the publisher's MD5 file, where there is one."""
    by_hand: str = ""
    """What to do where it can't be fetched by a program."""
    folder: str = ""
    """Where the files go, under the root; empty: an archive brings its own folder."""


def _movielens(size: str, title: str) -> DataSet:
    name = f"ml-{size}"
    source = sources.MovieLens100KSource() if size == "100k" else sources.MovieLensSource(path=Path(name))
    folder = {"10m": "ml-10M100K", "latest": "ml-latest"}.get(size, name)
    source = source.model_copy(update={"path": Path(folder)})
    address = f"{GROUPLENS}/movielens/{name}.zip"
    return DataSet(title, source, (address,), GROUPLENS_TERMS, "Harper and Konstan, 2015", checksum=f"{address}.md5")


def _amazon_2018(category: str, domain: sources.Domain) -> DataSet:
    folder = "amazon-2018"
    return DataSet(
        f"Amazon reviews 2018, {category.replace('_', ' ')}, 5-core",
        sources.Amazon2018Source(category=category, domain=domain),
        (
            f"{UCSD}/data/amazon_v2/categoryFilesSmall/{category}_5.json.gz",
            f"{UCSD}/data/amazon_v2/metaFiles2/meta_{category}.json.gz",
        ),
        UCSD_TERMS,
        "Ni, Li and McAuley, 2019",
        folder=folder,
    )


CATALOG: dict[str, DataSet] = {
    "ml-100k": _movielens("100k", "MovieLens 100K"),
    "ml-1m": _movielens("1m", "MovieLens 1M"),
    "ml-10m": _movielens("10m", "MovieLens 10M"),
    "ml-20m": _movielens("20m", "MovieLens 20M"),
    "ml-25m": _movielens("25m", "MovieLens 25M"),
    "ml-32m": _movielens("32m", "MovieLens 32M"),
    "ml-latest": _movielens("latest", "MovieLens latest (changes over time)"),
    "amazon-2018-books": _amazon_2018("Books", "book"),
    "amazon-2018-movies": _amazon_2018("Movies_and_TV", "movie"),
    "amazon-2018-pets": _amazon_2018("Pet_Supplies", "product"),
    "amazon-2023-movies": DataSet(
        "Amazon reviews 2023, Movies and TV",
        sources.Amazon2023Source(category="Movies_and_TV", domain="movie"),
        (
            f"{UCSD}/data/amazon_2023/raw/review_categories/Movies_and_TV.jsonl.gz",
            f"{UCSD}/data/amazon_2023/raw/meta_categories/meta_Movies_and_TV.jsonl.gz",
        ),
        UCSD_TERMS,
        "Hou et al., 2024",
        folder="amazon-2023",
    ),
    "steam": DataSet(
        "Steam reviews",
        sources.SteamSource(),
        (
            "https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz",
            "https://cseweb.ucsd.edu/~wckang/steam_games.json.gz",
        ),
        UCSD_TERMS,
        "Kang and McAuley, 2018",
        folder="steam",
    ),
    "beeradvocate": DataSet(
        "BeerAdvocate multi-aspect reviews",
        sources.BeerAdvocateSource(),
        (),
        "withdrawn from the web at BeerAdvocate's wish; academic use",
        "McAuley, Leskovec and Jurafsky, 2012",
        by_hand="ask its authors (J. McAuley, UCSD) for beeradvocate.txt.gz",
    ),
    "lastfm-1k": DataSet(
        "LastFM-1K plays",
        sources.LastFM1KSource(),
        ("http://mtg.upf.edu/static/datasets/last.fm/lastfm-dataset-1K.tar.gz",),
        "non-commercial use, by permission of Last.fm",
        "Celma, 2010",
    ),
    "lastfm-hetrec2011": DataSet(
        "LastFM of HetRec 2011",
        sources.HetrecLastFMSource(),
        (f"{GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip",),
        "non-commercial use; cite the workshop",
        "Cantador, Brusilovsky and Kuflik, 2011",
        folder="lastfm-hetrec2011",
    ),
    "goodreads": DataSet(
        "Goodreads shelves (UCSD book graph)",
        sources.GoodreadsSource(),
        (
            f"{UCSD}/gdrive/goodreads/goodreads_interactions_dedup.json.gz",
            f"{UCSD}/gdrive/goodreads/goodreads_books.json.gz",
        ),
        UCSD_TERMS,
        "Wan and McAuley, 2018",
        folder="goodreads",
    ),
    "recbole-ml-100k": DataSet(
        "MovieLens 100K as RecBole's atomic files",
        sources.RecBoleSource(),
        (),
        GROUPLENS_TERMS,
        "Zhao et al., 2021",
        by_hand="take ml-100k.inter and ml-100k.item from RecBole's data sets (recbole.io)",
    ),
    "lastfm-sdpo": DataSet(
        "S-DPO's LastFM examples",
        sources.SDPOJsonSource(),
        (),
        "none stated",
        "Chen et al., 2024 (S-DPO)",
        by_hand="take the JSON files of data/lastfm-sft-cans20 in the repository chenyuxin1999/S-DPO on GitHub",
    ),
    "llara-lastfm": DataSet(
        "LLaRA's LastFM data frames",
        sources.LLaRASource(),
        (),
        "Apache-2.0 (repository)",
        "Liao et al., 2024 (LLaRA)",
        by_hand="take data/ref/lastfm (.df files, id2name.txt) as the repository ljy0ustc/LLaRA on GitHub says",
    ),
}
