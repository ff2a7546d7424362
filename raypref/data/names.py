"""The one list of data sets' names, kinds of source and public sets: for --dataset, `data show` and `data download`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raypref.config.base import lookup
from raypref.config.sources import SOURCE_CONFIGS, CsvSource
from raypref.data.catalog import CATALOG
from raypref.errors import UserError

FOLDERS = {"recbole": ("*.inter",), "ml-100k": ("u.data",), "movielens": ("movies.dat", "movies.csv")}
"""What tells a folder of a known format from one of parts of a table."""


def named_source(name: str) -> Any:
    """The config of the source that a name stands for.

    Raises:
        UserError: nothing is called so; it names what is.
    """
    known = {kind: config() for kind, config in SOURCE_CONFIGS.items()}
    return lookup(name, known | {key: data.source for key, data in CATALOG.items()}, "data set")


def source_content(name: str) -> dict[str, Any]:
    """What a config says of the source that a name, or a place, stands for, beside its kind's own defaults."""
    if name in SOURCE_CONFIGS:
        return {"kind": name}
    if name not in CATALOG and (path := Path(name).expanduser()).exists():
        return {"kind": _place(path).kind, "path": str(path)}
    source = named_source(name)
    content: dict[str, Any] = source.model_dump(mode="json", exclude_defaults=True)
    return content | {"kind": source.kind}


def source_of_place(name: str) -> Any | None:
    """The config that reads a file or folder of one's own; None where `name` is the name of a data set."""
    path = Path(name)
    return _place(path) if path.exists() or path.suffix or len(path.parts) > 1 else None


def _place(path: Path) -> Any:
    if path.is_dir():
        kind = next((k for k, patterns in FOLDERS.items() if any(any(path.glob(p)) for p in patterns)), "csv")
        return SOURCE_CONFIGS[kind](path=path)
    return CsvSource(path=path)


def with_options(source: Any, given: dict[str, Any], name: str) -> Any:
    """`source` with some of its keys changed.

    Raises:
        UserError: it has no such keys, as its format is its publisher's.
    """
    unknown = [key for key in given if key not in type(source).model_fields]
    if unknown:
        raise UserError(
            f"{name} is read as its publisher wrote it: there is no {', '.join(unknown)} to choose",
            where=", ".join(f"--{key.replace('_', '-')}" for key in unknown),
            hint="leave that out; files of your own are given by their path",
        )
    return source.model_copy(update=given)
