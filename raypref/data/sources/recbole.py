"""RecBole's atomic files: tab-separated `.inter` and `.item` whose header names columns as `name:type`."""

from __future__ import annotations

from pathlib import Path

from raypref.config.base import unknown_key
from raypref.config.data import RecBoleSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, Sink
from raypref.errors import UserError

ATOMIC = Layout("\t")
TITLES = ("title", "movie_title", "name", "item_name")


def read_recbole(config: RecBoleSource) -> Log:
    """Columns by the names of the config, whatever else the files hold."""
    folder = find(config.path, "RecBole atomic files")
    inter, item = _atomic(folder, "inter"), _atomic(folder, "item")
    wanted = {key: getattr(config, key) for key in ("user", "item", "rating", "count", "timestamp")}
    column = {key: inter.column(name, key) for key, name in wanted.items() if name is not None}
    interactions = Sink(inter.file, config.max_bad_lines, INTERACTION_ROWS)
    for rows in inter.rows(list(column.values())):
        given = {"user_id": rows.text_of(column["user"], "user"), "item_id": rows.text_of(column["item"], "item")}
        if "rating" in column:
            given["rating"] = rows.rating_of(column["rating"])
        if "count" in column:
            given["count"] = rows.number_of(column["count"], "count", 0)
        if "timestamp" in column:
            given["timestamp"] = rows.seconds_of(column["timestamp"])
        interactions.add(rows, **given)
    key = item.column(config.item, "item")
    bare = [name.split(":")[0] for name in item.names]
    title = item.column(config.title or next((name for name in TITLES if name in bare), TITLES[0]), "title")
    items = Sink(item.file, config.max_bad_lines, ITEM_ROWS)
    for rows in item.rows([key, title]):
        items.add(rows, item_id=rows.text_of(key, "item"), title=rows.title_of(title))
    return log_of_files(inter.file.stem, config.domain, config.max_bad_lines, interactions.finish(), items.finish())


class _Atomic(DelimitedFile):
    def column(self, name: str, key: str) -> str:
        """The header's word for the column `name`, e.g. `user_id:token` for `user_id`."""
        known = {full.split(":")[0]: full for full in self.names}
        if name not in known:
            raise UserError(
                unknown_key(name, set(known)).replace("unknown key", "there is no column"),
                where=str(self.file),
                mend=f"name the column by --data.source.{key}",
            )
        return known[name]


def _atomic(folder: Path, end: str) -> _Atomic:
    found = sorted(folder.glob(f"*.{end}"))
    if len(found) != 1:
        raise UserError(
            f"the folder holds {len(found)} .{end} files instead of one",
            where=str(folder.absolute()),
            mend="put each data set into a folder of its own, with its .inter and .item file",
        )
    return _Atomic(found[0], ATOMIC)
