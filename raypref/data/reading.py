"""From a data config to its log: the source read, overlong titles cut or left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.data import DataConfig
from raypref.data.canonical import unique_titles
from raypref.data.schema import INTERACTIONS, ITEMS, Log, PublishedLog
from raypref.data.sources import SOURCES
from raypref.errors import UserError

USERS_STREAM = 11  # of random numbers: a draw of its own


def read_log(config: DataConfig) -> Log:
    """The log that `config.source` names, its titles of at most `config.max_title` characters.

    Raises:
        UserError: it can't be read; items are to be left out, and examples are published ready-made or none are left.
    """
    log = SOURCES[config.source.kind](config.source)
    if config.max_title is not None and config.long_titles == "leave-out":
        log = _without_long_titles(log, config.max_title)
    log = _of_some_users(log, config)
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
            "published examples are taken as they are", where="data.max_users", hint="give --data.max-users None"
        )
    chosen = np.random.default_rng([config.seed, USERS_STREAM]).permutation(log.users.num_rows)[: config.max_users]
    kept = np.isin(log.interactions["user"].to_numpy(), chosen)
    return replace(log, interactions=log.interactions.filter(pa.array(kept)))


def _without_long_titles(log: Log, most: int) -> Log:
    """The log without the items whose titles have more than `most` characters."""
    keep = np.asarray(pc.less_equal(pc.utf8_length(log.items["title"]), most))
    if keep.all():
        return log
    if isinstance(log, PublishedLog):
        raise UserError(
            "published examples are taken as they are", where="data.long_titles", hint="give --data.long-titles cut"
        )
    item = log.interactions["item"].to_numpy()
    code = np.cumsum(keep, dtype=np.int32) - np.int32(1)
    kept = keep[item]
    if not kept.any():
        raise UserError(
            f"all titles have more than {most:,} characters", where="data.max_title", hint="give --data.max-title None"
        )
    interactions = log.interactions.filter(pa.array(kept))
    items = log.items.filter(pa.array(keep))
    said = f"{(~keep).sum():,} items left out, with their {(~kept).sum():,} interactions: longer titles than {most:,}"
    return replace(
        log,
        interactions=interactions.set_column(1, INTERACTIONS.field("item"), pa.array(code[item[kept]])),
        items=items.set_column(0, ITEMS.field("item"), pa.array(np.arange(items.num_rows, dtype=np.int32))),
        assumed=(*log.assumed, said),
    )


def cut_title(title: str, most: int) -> str:
    """The first `most` characters of a longer title, to the end of a word where the last one does not fill half."""
    if len(title) <= most:
        return title
    kept = title[: most + 1].rpartition(" ")[0]
    return kept if 2 * len(kept) > most else title[:most].rstrip()
