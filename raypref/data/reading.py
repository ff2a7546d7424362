"""From a data config to its log: the source read, overlong titles cut."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from raypref.config.data import DataConfig
from raypref.data.canonical import unique_titles
from raypref.data.schema import Log
from raypref.data.sources import SOURCES


def read_log(config: DataConfig) -> Log:
    """The log that `config.source` names, its titles of at most `config.max_title` characters."""
    log = SOURCES[config.source.kind](config.source)
    if config.max_title is None:
        return log
    cut = [cut_title(title, config.max_title) for title in log.items["title"].to_pylist()]
    ids = log.items["item_id"].combine_chunks()
    return replace(log, items=log.items.set_column(2, log.items.schema.field(2), unique_titles(pa.array(cut), ids)))


def cut_title(title: str, most: int) -> str:
    """The first `most` characters of a longer title, to the end of a word where the last one does not fill half."""
    if len(title) <= most:
        return title
    kept = title[: most + 1].rpartition(" ")[0]
    return kept if 2 * len(kept) > most else title[:most].rstrip()
