"""Which of a file's columns is the user, the item, the title ...: guesses by names and values, for hints alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa

from raypref.data.sources.dates import seconds_of_dates

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# What others call our columns, letters and digits alone; for hints, never taken unasked.
SYNONYMS = {
    "user": "userid user uid reviewerid customerid memberid username visitorid accountid personid profilename useridx",
    "item": "itemid item movieid productid asin parentasin isbn bookid artistid songid trackid gameid businessid "
    "animeid articleid newsid videoid sku product movie book beerid recipeid contentid courseid itemidx iid",
    "title": "title name movietitle itemname itemtitle producttitle productname booktitle moviename artistname appname",
    "rating": "rating stars score overall bookrating userrating reviewscore rate ratingvalue stars",
    "timestamp": "timestamp time date datetime unixreviewtime reviewtime createdat ts eventtime reviewdate ratedat "
    "created when unixtime watchedat playedat",
}
# Words within a name, where no name as a whole is known: book_name, customer_uuid, last_played.
PEOPLE = {
    *"user customer listener account member reader viewer buyer reviewer client person visitor player".split(),
    *"subscriber shopper profile guest patron".split(),
}
THINGS = {
    *"item product sku track episode movie film book song artist album game video article news podcast show".split(),
    *"course recipe beer app content asin isbn business anime".split(),
}
OTHERS = {
    *"file host brand category genre author first last nick store shop seller director publisher country city".split(),
    *"order session transaction event review row line".split(),
}
IDS = {"id", "uuid", "guid", "key", "code", "idx", "index", "number", "no", "sku", "asin", "isbn"}
TIMES = {"timestamp", "datetime", "time", "date", "when", "at", "played", "watched", "viewed", "purchased", "bought"}


def suggestions(
    wanted: dict[str, str], names: Sequence[str], taken: Collection[str], times: Collection[str] = ()
) -> dict[str, str]:
    """The columns that most likely hold the `wanted` ones (by key: user, items_item ...), no column twice.

    A sure guess of any key goes before a doubtful one of another, which may not take its column.

    Args:
        wanted: by key, the name that the file lacks.
        taken: columns that have a use already.
        times: columns that are times by their type.
    """
    found: dict[str, str] = {}
    for guess in (_of_the_item, _same, _misspelt, _typed, _within, _close):
        for key, name in wanted.items():
            free = [n for n in names if n and n not in taken and n not in found.values()]
            if key not in found and (column := guess(key.removeprefix("items_"), name, free, names, times)):
                found[key] = column
    return found


def _of_the_item(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    """The title called after what the file has ids of: track_name beside track, whatever artist_name there is."""
    things = _things(names)
    return next((n for n in free if _merit(key, _words(n), things) == 3), None) if name == key == "title" else None


def _same(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    plain = _plain(free)
    return next((plain[known] for known in SYNONYMS.get(name, _letters(name)).split() if known in plain), None)


def _misspelt(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    """The column close to a name that the user gave, else one known by the key."""
    if name == key:
        return None
    return _alike(name, free) or _same(key, key, free, names, times)


def _typed(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    return next((n for n in free if n in times), None) if key == "timestamp" else None


def _within(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    """The column with the most telling words in its name, the first of equals."""
    things = _things(names)
    merits = {n: _merit(key, _words(n), things) for n in free}
    best = max(merits, key=lambda n: merits[n], default=None)
    return best if best is not None and merits[best] > 0 else None


def _close(key: str, name: str, free: list[str], names: Sequence[str], times: Collection[str]) -> str | None:
    return _alike(key, free)


def _things(names: Sequence[str]) -> set[str]:
    """What the columns are ids of, to judge by their names: track of track_id, or of track."""
    words = [_words(name) for name in names]
    return {word for w in words if w and (w[-1] in IDS or len(w) == 1) for word in w} & THINGS


def _merit(key: str, words: list[str], things: set[str]) -> int:
    """How much a name's words speak for `key`; 0: nothing does. `things`: what the file has ids of."""
    said = {*words}
    if not words:
        return 0
    if key == "title":
        if not said & {"title", "name"} or said & (PEOPLE | OTHERS):
            return 0
        return 3 if said & things else 2 if said & THINGS else 1
    if key == "user":
        if (words[-1] in ("name", "title") and not said & PEOPLE) or said & (THINGS | OTHERS):
            return 0
        if said & PEOPLE:
            return 3 if words[-1] in IDS else 2
        return int(words[-1] in ("id", "uuid", "guid"))
    if key == "item":
        if not said & THINGS or said & (PEOPLE | OTHERS):
            return 0
        return 2 if words[-1] in IDS else int(len(words) == 1)
    if key == "timestamp":
        return int(bool(said & TIMES) and not said & {"name", "title"})
    return 0


def _words(name: str) -> list[str]:
    """Of lastPlayed, last_played and last-played alike: last, played."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _plain(names: Sequence[str]) -> dict[str, str]:
    return {_letters(name): name for name in reversed(names)}


def _alike(name: str, free: Sequence[str]) -> str | None:
    plain = _plain(free)
    close = difflib.get_close_matches(name, list(plain), n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def names_by_values(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for the columns of equally long rows: times, ratings, then user and item in their order, and the title.

    Dates go before numbers that could be times: ids have as many digits. Of several columns of text that one is the
    title that goes with the item, as a comment does not.
    """
    columns = list(zip(*rows))
    numbers = [[float(v) for v in column if NUMBER.fullmatch(v)] for column in columns]
    numeric = [len(values) > len(rows) / 2 for values in numbers]
    names = [""] * len(columns)

    def take(name: str, *choices: Iterable[int]) -> None:
        """Name the last column of the first choice that has any."""
        for choice in choices:
            if places := [i for i in choice if not names[i]]:
                names[places[-1]] = name
                return

    places = range(len(columns))
    dates = [i for i in places if not numeric[i] and _dated(columns[i]) > 0.5]
    take("timestamp", dates, [i for i in places if numeric[i] and min(numbers[i]) > 1e8])
    take("rating", [i for i in places if numeric[i] and max(numbers[i]) <= 10 and i >= 2])
    texts = [i for i in places if not names[i] and sum(map(_is_text, columns[i])) > len(rows) / 4]
    ids = [i for i in places if not names[i] and i not in texts]
    if texts:
        item = columns[ids[1]] if len(ids) > 1 else None
        names[max(texts, key=lambda i: (0.0 if item is None else _goes_with(item, columns[i]), i))] = "title"
    if len(ids) < 2:
        ids = [i for i in places if not names[i]]
    for i, name in zip(ids, ("user", "item")):
        names[i] = name
    rest = (f"column{i}" for i in places)
    return [name or next(rest) for name in names]


def _is_text(value: str) -> bool:
    return " " in value and any(c.isalpha() for c in value)


def _dated(column: Sequence[str]) -> float:
    """Share of values that are dates."""
    return float(np.isfinite(seconds_of_dates(pa.array(column, pa.string()), None, False)).mean())


def _goes_with(item: Sequence[str], text: Sequence[str]) -> float:
    """Share of the rows whose text is that of their item's first row."""
    first: dict[str, str] = {}
    return sum(first.setdefault(i, t) == t for i, t in zip(item, text)) / max(len(item), 1)
