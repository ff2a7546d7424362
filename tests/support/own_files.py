"""A small log of one's own, written in the many ways in which people hand it over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raypref.config.sources import CsvSource
from raypref.data.schema import Log
from raypref.data.sources import SOURCES

USERS, ITEMS, LENGTH = 24, 40, 10
START, STEP = 1_600_000_000, 604_800
NAMES = ("user", "item", "rating", "timestamp", "title")


@dataclass(frozen=True)
class Event:
    user: str
    item: str
    rating: int
    time: int
    title: str


def events() -> list[Event]:
    """The log's rows, each user's in the order of time; no two of a user at one time."""
    return [
        Event(f"u{u}", f"i{i}", (u + k) % 5 + 1, START + u * 86_400 + k * STEP, f"Title {i}")
        for u in range(USERS)
        for k in range(LENGTH)
        for i in [(u * 5 + k * 7) % ITEMS]
    ]


def lines(separator: str = ",", **changed: Any) -> list[str]:
    """Header and rows as text; `changed`: by column, a function of the event that gives another text."""
    made = {
        "user": lambda e: e.user,
        "item": lambda e: e.item,
        "rating": lambda e: str(e.rating),
        "timestamp": lambda e: str(e.time),
        "title": lambda e: e.title,
    } | changed
    rows = [separator.join(str(made[name](e)) for name in NAMES) for e in events()]
    return [separator.join(NAMES), *rows]


def write(path: Path, content: list[str] | str | bytes, encoding: str = "utf-8", end: str = "\n") -> Path:
    """Write lines, text or bytes."""
    text = end.join(content) + end if isinstance(content, list) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def read(path: Path, **options: Any) -> Log:
    """Read a file of one's own."""
    return SOURCES["csv"](CsvSource(path=path, **options))


def facts(log: Log) -> list[tuple[str, str, float | None, int | None, str]]:
    """(user, item, rating, time, title) of each interaction by raw ids, sorted."""
    items, users, table = log.items.to_pylist(), log.users["user_id"].to_pylist(), log.interactions.to_pylist()
    rows = [
        (users[r["user"]], items[r["item"]]["item_id"], r["rating"], r["timestamp"], items[r["item"]]["title"])
        for r in table
    ]
    return sorted(rows, key=str)


def expected() -> list[tuple[str, str, float, int, str]]:
    """What `facts` of the log as it is are."""
    return sorted(((e.user, e.item, float(e.rating), e.time, e.title) for e in events()), key=str)


def said(log: Log) -> str:
    """The line of what was assumed."""
    return "; ".join(log.assumed)
