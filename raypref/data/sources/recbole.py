"""RecBole's atomic files: tab-separated `.inter` and `.item` whose header names columns as `name:type`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raypref.config.sources import RecBoleSource
from raypref.data.schema import Log
from raypref.data.sources.delimited import DelimitedFile, Layout
from raypref.data.sources.files import find
from raypref.data.sources.join import log_of_files
from raypref.data.sources.own_columns import OPTIONAL, check_columns, id_of, read_interactions, title_of
from raypref.data.sources.rows import ITEM_ROWS, Sink
from raypref.errors import UserError

ATOMIC = Layout("\t", quoted=True)
TITLES = ("title", "movie_title", "name", "item_name")


def read_recbole(config: RecBoleSource) -> Log:
    """Columns by the names of the config, whatever else the files hold."""
    folder = find(config.path, "RecBole atomic files")
    inter, item = _atomic(folder, "inter"), _atomic(folder, "item")
    wanted = {key: getattr(config, key) for key in ("user", "item", *OPTIONAL)}
    if config.order == "rows":
        wanted["timestamp"] = None
    inter.check({key: name for key, name in wanted.items() if name is not None})
    columns = {key: inter.full[name] for key, name in wanted.items() if name is not None}
    found = read_interactions([inter], columns, config, config.max_bad_lines)
    named = config.title or next((name for name in TITLES if name in item.full), TITLES[0])
    item.check({"item": config.item, "title": named})
    key, title = item.full[config.item], item.full[named]
    items = Sink(item.file, config.max_bad_lines, ITEM_ROWS)
    for rows in item.rows([key, title]):
        items.add(rows, item_id=id_of(rows, key, "item", item.file), title=title_of(rows, title, item.file))
    log = log_of_files(inter.file.stem, config.domain, config.max_bad_lines, found.files, items.finish())
    return replace(log, assumed=tuple(found.said))


class _Atomic(DelimitedFile):
    """Its header's words by the names in them: `user_id:token` by `user_id`."""

    @property
    def full(self) -> dict[str, str]:
        return {full.split(":")[0]: full for full in self.names}

    def check(self, wanted: dict[str, str]) -> None:
        check_columns(self.file, tuple(self.full), wanted)


def _atomic(folder: Path, end: str) -> _Atomic:
    found = sorted(folder.glob(f"*.{end}"))
    if len(found) != 1:
        raise UserError(
            f"the folder holds {len(found)} .{end} files instead of one",
            where=str(folder.absolute()),
            hint="put each data set into a folder of its own, with its .inter and .item file",
        )
    return _Atomic(found[0], ATOMIC)
