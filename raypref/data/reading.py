"""From a data config to its log: the source read, overlong titles cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from raypref.config.data import DataConfig
from raypref.data.canonical import unique_titles
from raypref.data.schema import Log, PublishedLog
from raypref.data.sources import SOURCES
from raypref.errors import UserError

USERS_STREAM = 11  # of random numbers: a draw of its own


def read_log(config: DataConfig) -> Log:
    """The log that `config.source` names, its titles of at most `config.max_title` characters."""
    log = _of_some_users(SOURCES[config.source.kind](config.source), config)
    if config.max_title is None:
        return log
    cut = [cut_title(title, config.max_title) for title in log.items["title"].to_pylist()]
    ids = log.items["item_id"].combine_chunks()
    return replace(log, items=log.items.set_column(2, log.items.schema.field(2), unique_titles(pa.array(cut), ids)))


def _of_some_users(log: Log, config: DataConfig) -> Log:
    """The log of `config.max_users` users drawn at random, all of it where it has no more.

    Raises:
        UserError: its examples are published ready-made.
    """
    if config.max_users is None or log.users.num_rows <= config.max_users:
        return log
    if isinstance(log, PublishedLog):
        raise UserError(
            "published examples are taken as they are", where="data.max_users", mend="give --data.max-users None"
        )
    chosen = np.random.default_rng([config.seed, USERS_STREAM]).permutation(log.users.num_rows)[: config.max_users]
    kept = np.isin(log.interactions["user"].to_numpy(), chosen)
    return replace(log, interactions=log.interactions.filter(pa.array(kept)))


def cut_title(title: str, most: int) -> str:
    """The first `most` characters of a longer title, to the end of a word where the last one does not fill half."""
    if len(title) <= most:
        return title
    kept = title[: most + 1].rpartition(" ")[0]
    return kept if 2 * len(kept) > most else title[:most].rstrip()
