"""What a dry run says of the data, and what `prepare` would refuse: from the files, or from the head of a large one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.data import DataConfig
from raypref.config.sources import CsvSource, FileSource
from raypref.data.examples import examples_of
from raypref.data.reading import read_log
from raypref.data.schema import Log, PublishedLog
from raypref.data.sources.columnar import columnar_magic
from raypref.data.sources.files import find, items_file
from raypref.data.sources.opening import opened
from raypref.data.splitting import SPLITS
from raypref.errors import UserError

HEAD_BYTES = 8 << 20
WHOLE_BYTES = 16 << 20  # of files that are read to their end: a second or two


def preview(config: DataConfig) -> tuple[list[str], list[str]]:
    """Lines that say what the data are, and lines of what will fail; both empty for generated data."""
    try:
        return look(config), []
    except UserError as error:
        return [], [f"data: {' '.join(error.what.split())}" + (f"; {error.hint}" if error.hint else "")]


def look(config: DataConfig) -> list[str]:
    """Lines that say what the data are; none for generated data.

    Raises:
        UserError: `prepare` would refuse them, as far as can be seen from a small file, or the head of a large one.
    """
    source = config.source
    if not isinstance(source, FileSource):
        return []
    found = find(source.path, source.kind, source.files)
    size = sum(path.stat().st_size for path in ([found] if found.is_file() else found.rglob("*")) if path.is_file())
    if size <= WHOLE_BYTES:
        log = read_log(config)
        return _said(log, "") + _targets(log, config)
    if isinstance(source, CsvSource) and found.is_file() and columnar_magic(found) is None:
        return _said(_of_head(found, source, config), f" in its first {HEAD_BYTES >> 20} MB")
    return [f"data: {size / 1e6:,.0f} MB at {found}, not read by a dry run"]


def _of_head(found: Path, source: CsvSource, config: DataConfig) -> Log:
    """The log of a file's first lines."""
    with tempfile.TemporaryDirectory() as folder, opened(found) as file:
        head = Path(folder) / found.name
        head.write_bytes(file.read(HEAD_BYTES).rpartition(b"\n")[0] + b"\n")
        items = None if source.items is None else items_file(source.items, found).absolute()
        cut = source.model_copy(update={"path": head, "items": items})
        return read_log(config.model_copy(update={"source": cut, "max_users": None}))


def _said(log: Log, where: str) -> list[str]:
    rows = log.interactions
    counts = f"{log.users.num_rows:,} users, {log.items.num_rows:,} items, {rows.num_rows:,} interactions{where}"
    lines = [f"data: {counts}; {log.rejected.num_rows:,} lines refused"]
    if rows["rating"].null_count < rows.num_rows:
        low, high = (f"{pc.min_max(rows['rating'])[end].as_py():g}" for end in ("min", "max"))
        lines.append(f"ratings: {low} to {high}")
    else:
        lines.append("ratings: none")
    if log.has_times:
        ends = (pc.min_max(rows["timestamp"])[end].as_py() for end in ("min", "max"))
        first, last = (pc.strftime(_moment(end), format="%Y-%m-%d").as_py() for end in ends)
        lines.append(f"times: {first} to {last}")
    else:
        lines.append("times: none")
    return lines + [f"found: {text}" for text in log.assumed]


def _moment(seconds: int) -> pa.Scalar:
    return pa.scalar(seconds, pa.timestamp("s"))


def _targets(log: Log, config: DataConfig) -> list[str]:
    """How many examples there will be.

    Raises:
        UserError: none.
    """
    examples = examples_of(log, config)
    counts = "/".join(f"{examples.rows(split):,}" for split in SPLITS)
    published = " (published)" if isinstance(log, PublishedLog) else ""
    return [f"examples: {counts} to train, validate and test{published}"]
