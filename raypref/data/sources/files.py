"""Finding a source's files, and keeping account of its broken lines."""

from __future__ import annotations

import difflib
import math
import os
from pathlib import Path

import pyarrow as pa

from raypref.data.hints import options
from raypref.data.schema import REJECTED
from raypref.errors import UserError

MOST_LEFT_OUT = 0.2  # of a file's lines
NO_TIME = "time is neither a Unix time nor a date from 1970 on"
NO_RATING = "rating is not a number"
WAYS_ON = {
    NO_TIME: "say how times are written (time-format takes a pattern such as %d.%m.%Y), or, if a user's rows stand in "
    f"order, take that for their time: {options({'order': 'rows'})}",
    NO_RATING: f"write them as numbers, or leave ratings out: {options({'rating': None}, {'target': 'next'})}",
}
"""By reason: of lines that are broken because a column is read in the wrong way."""


def data_folder() -> Path:
    """Where data sets lie, and are downloaded to: $RAYPREF_DATA, else ./data."""
    return Path(os.environ.get("RAYPREF_DATA") or "data")


def find(path: Path, what: str, files: tuple[str, ...] = (), option: str = "path") -> Path:
    """`path`, or the same in `data_folder()`; a folder must hold `files`."""
    tried = [p.absolute() for p in dict.fromkeys([path.expanduser(), data_folder() / path])]
    found = next((p for p in tried if p.exists()), None)
    if found is None:
        raise UserError(
            f"{what}: there is no {path}{_did_you_mean(tried)}",
            where=", ".join(map(str, tried)),
            hint=f"give the place by --data.source.{option}, or set RAYPREF_DATA to the folder that holds it",
        )
    missing = [name for name in files if not (found / name).is_file()]
    if missing:
        raise UserError(
            f"{what}: the folder lacks {', '.join(missing)}",
            where=str(found.absolute()),
            hint=f"unpack the whole data set there; it should hold {', '.join(files)}",
        )
    return found


def _did_you_mean(tried: list[Path]) -> str:
    """The file or folder beside a missing one whose name is most like its own, as a question; else nothing."""
    for path in tried:
        names = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
        if close := difflib.get_close_matches(path.name, names, n=1, cutoff=0.75):
            return f": did you mean {close[0]}?"
    return ""


def items_file(path: Path, interactions: Path) -> Path:
    """The file of items: `path`, also beside the interactions or in their folder, or in `data_folder()`."""
    for folder in (interactions.parent, interactions):
        if not path.is_absolute() and (folder / path).is_file():
            return folder / path
    return find(path, "the file of items", option="items")


def first_there(folder: Path, names: list[str]) -> Path:
    """The first of `names` that `folder` holds."""
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise UserError(
            f"the folder lacks {names[0]}",
            where=str(folder.absolute()),
            hint=f"download it there; any of {', '.join(names)} will do" if len(names) > 1 else "download it there",
        )
    return found


def rejected_table(file: Path, lines: list[int], reasons: list[str], texts: list[str]) -> pa.Table:
    """Refused lines of one file as `schema.REJECTED`."""
    return pa.table(
        {"file": [file.name] * len(lines), "line": lines, "reason": reasons, "text": [t[:500] for t in texts]},
        schema=REJECTED,
    )


def tolerate(rejected: pa.Table, total: int, limit: float, file: Path) -> None:
    """Refuse a file of which more than `limit` (a share) is broken, showing the first five lines."""
    if total == 0:
        raise UserError("the file is empty", where=str(file), hint="download or export it again")
    if rejected.num_rows <= limit * total:
        return
    shown = "\n".join(
        f"    line {row['line']}: {row['reason']}: {row['text'][:80]!r}" for row in rejected.slice(0, 5).to_pylist()
    )
    raise UserError(
        f"{rejected.num_rows:,} of {total:,} lines are broken "
        f"({rejected.num_rows / total:.1%}; limit {limit:.1%}):\n{shown}",
        where=str(file),
        hint=_way_on(rejected, rejected.num_rows / total),
    )


def _way_on(rejected: pa.Table, share: float) -> str:
    """What to do about broken lines; so many that the data would be another are never advised to be left out."""
    if share > MOST_LEFT_OUT:
        reasons = rejected["reason"].to_pylist()
        commonest = max({*reasons}, key=reasons.count)
        return WAYS_ON.get(commonest, "mend the lines: they are too many to be left out")
    allowed = math.ceil(share * 100 + 1e-9) / 100
    return f"mend the lines, or leave them out: {options({'max_bad_lines': allowed})}"
