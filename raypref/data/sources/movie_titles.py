"""MovieLens titles, `Third Man, The (1949)`, as RecPO's figure 5 prints them: `The Third Man`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pyarrow as pa

from raypref.data.sources.rows import FileTable

_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|Il|El|Das|Der|Die)$")


def clean_title(title: str) -> str:
    """The title without its year and second title, its article in front."""
    bare = _YEAR.sub("", title)
    bare = re.sub(r"\s*\([^)]*\)\s*$", "", bare) or bare  # a second title in brackets
    return _ARTICLE.sub(r"\2 \1", bare).strip() or title


def cleaned(titles: list[str]) -> list[str]:
    """Cleaned titles; the year stays where two films would otherwise share one."""
    bare = [clean_title(t) for t in titles]
    counts = Counter(bare)
    years = [match[1] if (match := _YEAR.search(t)) else "" for t in titles]
    return [f"{t} ({year})" if counts[t] > 1 and year else t for t, year in zip(bare, years)]


def clean_titles(items: FileTable) -> FileTable:
    """The same file of items with cleaned titles."""
    titles = pa.array(cleaned(items.table["title"].to_pylist()), pa.string())
    return replace(items, table=items.table.set_column(1, "title", titles))
