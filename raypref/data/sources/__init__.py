"""Data sources: one file per raw format, each a function from its config to a canonical `Log`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raypref.data.schema import Log
from raypref.data.sources.amazon import read_amazon_2018, read_amazon_2023
from raypref.data.sources.beeradvocate import read_beeradvocate
from raypref.data.sources.csv_file import read_csv
from raypref.data.sources.generated import generate
from raypref.data.sources.goodreads import read_goodreads
from raypref.data.sources.hetrec_lastfm import read_hetrec_lastfm
from raypref.data.sources.lastfm_1k import read_lastfm_1k
from raypref.data.sources.llara import read_llara
from raypref.data.sources.movielens import read_movielens
from raypref.data.sources.movielens_100k import read_movielens_100k
from raypref.data.sources.recbole import read_recbole
from raypref.data.sources.sdpo_json import read_sdpo_json
from raypref.data.sources.steam import read_steam

SOURCES: dict[str, Callable[[Any], Log]] = {
    "generated": generate,
    "ml-100k": read_movielens_100k,
    "movielens": read_movielens,
    "amazon-2018": read_amazon_2018,
    "amazon-2023": read_amazon_2023,
    "steam": read_steam,
    "beeradvocate": read_beeradvocate,
    "lastfm-1k": read_lastfm_1k,
    "lastfm-hetrec2011": read_hetrec_lastfm,
    "goodreads": read_goodreads,
    "recbole": read_recbole,
    "sdpo-json": read_sdpo_json,
    "llara": read_llara,
    "csv": read_csv,
}
