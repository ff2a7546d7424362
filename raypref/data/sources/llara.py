"""LLaRA's data frames: pickled frames with a padded `seq`, its length `len_seq`, and the item that came `next`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from raypref.config.sources import LLaRASource
from raypref.data.schema import REJECTED, FileAccount, PublishedLog
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find, first_there, rejected_table, tolerate
from raypref.data.sources.frame_pickle import read_frame
from raypref.data.sources.movie_titles import clean_titles
from raypref.data.sources.movielens_100k import MOVIES
from raypref.data.sources.published import Ready, published_log
from raypref.data.sources.rows import ITEM_ROWS, FileTable, Sink
from raypref.errors import UserError

FRAMES = {"train": "train_data.df", "validation": "Val_data.df", "test": "Test_data.df"}
COLUMNS = ("seq", "len_seq", "next")
SHORTEST = 3  # LLaRA leaves shorter histories out


def read_llara(config: LLaRASource) -> PublishedLog:
    """Read what frames there are. Items are numbers, or pairs of a number and a rating; candidates are drawn later."""
    folder = find(config.path, "LLaRA's data frames", (FRAMES["train"],))
    items, shift = _titles(folder, config.max_bad_lines)
    titles = dict(zip(items.table["item_id"].to_pylist(), items.table["title"].to_pylist()))
    splits: dict[str, list[Ready]] = {}
    rejected, accounts = [REJECTED.empty_table(), items.rejected], [items.account]
    for split, name in FRAMES.items():
        if (folder / name).is_file():
            splits[split], refused, account = _read(folder / name, titles, shift, config.max_bad_lines)
            rejected.append(refused)
            accounts.append(account)
    return published_log(folder.name, config.domain, splits, titles, pa.concat_tables(rejected), tuple(accounts))


def _titles(folder: Path, limit: float) -> tuple[FileTable, int]:
    """Titles by raw id, and what to add to a frame's item number to get it: MovieLens counts from 1, frames from 0."""
    file = first_there(folder, ["id2name.txt", "u.item"])
    movies = file.name == "u.item"
    layout = MOVIES if movies else Layout("::", ("item", "title"))
    sink = Sink(file, limit, ITEM_ROWS)
    for rows in DelimitedFile(file, layout).rows(("item", "title")):
        sink.add(rows, item_id=rows.text_of("item", "item"), title=rows.title_of("title"))
    table = sink.finish()
    return (clean_titles(table), 1) if movies else (table, 0)


def _read(file: Path, titles: dict[str, str], shift: int, limit: float) -> tuple[list[Ready], pa.Table, FileAccount]:
    frame = read_frame(file)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise UserError(f"the frame lacks {', '.join(missing)}", where=str(file), hint="is it LLaRA's?")
    ready, numbers, reasons, texts = [], [], [], []
    for number, row in enumerate(zip(*(frame[name] for name in COLUMNS)), 1):
        made = _example(row[0], row[1], row[2], titles, shift)
        if isinstance(made, str):
            numbers.append(number)
            reasons.append(made)
            texts.append(str(row)[:500])
        else:
            ready.append(made)
    lines = len(ready) + len(numbers)
    short = sum(reason == _TOO_SHORT for reason in reasons)
    rejected = rejected_table(file, numbers, reasons, texts)
    broken = rejected.filter(pa.array([reason != _TOO_SHORT for reason in reasons], pa.bool_())) if short else rejected
    tolerate(broken, lines, limit, file)
    return ready, rejected, FileAccount(file.name, lines, len(ready), len(numbers))


_TOO_SHORT = f"history shorter than {SHORTEST}: left out, as LLaRA does"


def _example(seq: Any, length: Any, target: Any, titles: dict[str, str], shift: int) -> Ready | str:
    """The example, or why there is none. The padding stands behind the `length` true items."""
    if not isinstance(seq, list) or not isinstance(length, int) or not 0 <= length <= len(seq):
        return "seq is not a list of at least len_seq items"
    if length < SHORTEST:
        return _TOO_SHORT
    pairs = [_item_and_rating(value, shift) for value in (*seq[:length], target)]
    if any(pair is None or pair[0] not in titles for pair in pairs):
        return "an item has no title"
    known = [pair for pair in pairs if pair is not None]
    (answer, rating), history = known[-1], known[:-1]
    return Ready([item for item, _ in history], answer, [answer], [r for _, r in history], rating)


def _item_and_rating(value: Any, shift: int) -> tuple[str, float] | None:
    rating = float("nan")
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], int | float):
        value, rating = value[0], float(value[1])
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return str(value + shift), rating if 0.5 <= rating <= 5 else float("nan")
