"""MovieLens titles, `Third Man, The (1949)`, as RecPO's figure 5 prints them: `The Third Man`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pyarrow as pa

from raypref.data.sources.rows import FileTable

_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_SECOND = re.compile(r"\s*\([^)]*\)\s*$")
_UNFINISHED = re.compile(r"([:&-]|\bor)$", re.IGNORECASE)  # what follows is no second title
# "Die" is German's article only behind a title without a comma of its own: "Die, Mommie, Die" is English.
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|Il|El|Das|Der|L'|L\u2019)$|^([^,]*), (Die)$")


def clean_title(title: str) -> str:
    """The title without its year and second title, its article in front."""
    bare = _YEAR.sub("", title)
    first = _SECOND.sub("", bare)
    bare = first if first and not _UNFINISHED.search(first) else bare
    if match := _ARTICLE.match(bare):
        name, article = (match[1], match[2]) if match[2] else (match[3], match[4])
        bare = article + ("" if article[-1] in "'\u2019" else " ") + name
    return bare.strip() or title


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
