"""Ratings of any scale, found from all values of a file and brought to 0.5 to 5, where 4 is liked and 2 disliked.

1 to 10 is halved, 0 to 100 divided by 20, thumbs become 1 and 5: proportion keeps liked what is liked. A scale is never
guessed from a stray value: one in a hundred may lie outside and is refused as a broken line.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.config.sources import SCALE
from raypref.data.hints import options
from raypref.data.sources.files import NO_RATING, rejected_table, tolerate
from raypref.data.sources.rows import FileTable, Rows, to_numbers
from raypref.errors import UserError

STRAY = 0.01
MOST_STRAY = 0.1  # past it, values outside are rather another scale
LOWEST, HIGHEST = 0.5, 5.0
MISSING = ["", "nan", "NaN", "None", "NULL", "null", "<NA>", "NA", "N/A", "\\N", "-"]
WORDS = {
    1.0: ["true", "t", "yes", "y", "up", "thumbs up", "thumbs_up", "thumbsup", "like", "liked", "👍", "positive"],
    0.0: [
        "false",
        "f",
        "no",
        "n",
        "down",
        "thumbs down",
        "thumbs_down",
        "thumbsdown",
        "dislike",
        "disliked",
        "👎",
        "negative",
    ],
}
FULL, HOLLOW, HALF_STAR = "\u2605\u2b50", "\u2606", 0.5
STARS = re.compile("[\u2605\u2b50\u2606\ufe0f ]+(1\u20442)?")  # NFKC writes a half so
TOLD = re.compile(
    r"(rated )?(?P<value>[+-]?\d+([.,]\d+)?) ?((?P<percent>%)|(/|out of) ?(?P<whole>\d+([.,]\d+)?))?"
    r"( ?(stars?|points?))?"
)


@dataclass(frozen=True)
class Scale:
    """The scale that ratings are written in."""

    low: float
    high: float
    unrated: tuple[float, ...] = ()
    """Numbers that stand for no rating."""

    def stars(self, value: np.ndarray) -> np.ndarray:
        """float64 ratings of 0.5 to 5; NaN for what is unrated, and for what lies outside the scale."""
        given = np.where(np.isin(value, self.unrated), np.nan, value)
        given = np.where((given >= self.low) & (given <= self.high), given, np.nan)
        if (self.low == 0 and self.high == 1) or (self.low == -1 and self.high == 1):
            return 1 + 4 * (given - self.low) / (self.high - self.low)
        if self.low < 0:
            return LOWEST + (given - self.low) / (self.high - self.low) * (HIGHEST - LOWEST)
        return np.maximum(given * HIGHEST / self.high, LOWEST) if self.high != HIGHEST else given

    @property
    def said(self) -> str:
        text = f"ratings {self.low:g} to {self.high:g}"
        if self.high == 1:
            return f"{text} (thumbs), as 1 to 5"
        if self.low < 0:
            return f"{text}, as 0.5 to 5"
        return text if self.high == HIGHEST else f"{text}, times {HIGHEST / self.high:g}"


def raw_ratings(rows: Rows, name: str) -> np.ndarray:
    """A column of ratings as they are written: numbers, comma decimals, thumbs in words; NaN where there is none."""
    column = rows.columns[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    value = to_numbers(column)
    if not pa.types.is_string(column.type) or not np.isnan(value).any():
        return value
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    missing = pc.or_kleene(pc.is_null(text), pc.is_in(text, value_set=pa.array([m.lower() for m in MISSING])))
    coded = pc.fill_null(text, "").dictionary_encode()  # of a few hundred ways to write a rating
    told = np.array([_told(word) for word in coded.dictionary.to_pylist()], dtype=np.float64)
    value = np.where(np.isnan(value), told[np.asarray(coded.indices)], value)
    rows.refuse(~np.isfinite(value) & ~np.asarray(pc.fill_null(missing, True)), NO_RATING)
    return np.where(np.isfinite(value), value, np.nan)


def _told(text: str) -> float:
    """The number that a rating in words or signs stands for: `4,5`, `4 stars`, `8/10`, `80%`, stars drawn, thumbs; of a
    scale that it names, in stars of 5. NaN where it stands for none.
    """
    text = unicodedata.normalize("NFKC", text).strip("'\u2019 ")
    for number, words in WORDS.items():
        if text in words:
            return number
    if STARS.fullmatch(text) and (text.strip(HOLLOW) or HOLLOW in text):
        return sum(text.count(star) for star in FULL) + HALF_STAR * ("1\u20442" in text)
    match = TOLD.fullmatch(text)
    if match is None:
        return float("nan")
    value = float(match["value"].replace(",", "."))
    whole = float(match["whole"].replace(",", ".")) if match["whole"] else 100.0 if match["percent"] else HIGHEST
    return value if whole == HIGHEST else value * HIGHEST / whole if whole else float("nan")


def settled(
    files: Sequence[FileTable], column: str, scale: str | None, unrated: tuple[float, ...] | None, limit: float
) -> tuple[list[FileTable], str]:
    """The files with their ratings as 0.5 to 5 stars (null: unrated), and what to say of the scale.

    Raises:
        UserError: the scale can't be told; or more rows than `limit` lie outside it.
    """
    values = [file.table["rating"].to_numpy().astype(np.float64) for file in files]
    found = _scale(np.concatenate(values), column, scale, unrated, str(files[0].file))
    result = []
    for file, value in zip(files, values):
        stars = found.stars(value)
        outside = np.isnan(stars) & ~np.isnan(value) & ~np.isin(value, found.unrated)
        result.append(_without(file, stars, outside, f"rating is not in {found.low:g}..{found.high:g}", limit))
    every = np.concatenate(values)
    marked = {f"{mark:g}": int((every == mark).sum()) for mark in found.unrated} | {"empty": int(np.isnan(every).sum())}
    said = ", ".join(f"{mark} ({count:,})" for mark, count in marked.items() if count)
    return result, found.said + (f", unrated: {said}" if said else "")


def _scale(every: np.ndarray, column: str, scale: str | None, unrated: tuple[float, ...] | None, where: str) -> Scale:
    value = every[~np.isnan(every)]
    marks = _marks(value, scale) if unrated is None else unrated
    value = value[~np.isin(value, marks)]
    if scale is not None:
        match = SCALE.fullmatch(scale)
        assert match is not None  # the config refuses what is no scale
        return Scale(float(match[1]), float(match[2]), marks)
    if len(value) == 0:
        return Scale(LOWEST, HIGHEST, marks)
    allowed = int(STRAY * len(value))
    low, high = (np.sort(value)[i] for i in (allowed, len(value) - 1 - allowed))
    if (value == 1).all():
        raise UserError(
            f"every rating is 1 (column {column}), so ratings tell nothing",
            where=where,
            hint=f"leave them out: {options({'rating': None}, {'target': 'next'})}",
        )
    whole = bool((value == np.floor(value)).all())
    if low < 0:
        if (low, high) == (-1, 1):
            return Scale(-1, 1, (*marks, 0.0) if 0 in value and whole else marks)
        _refuse(f"ratings go from {low:g} to {high:g}", f"{low:g}-{high:g}", column, where)
    if high <= 1 and (low < LOWEST or not whole):
        return Scale(0, 1, marks)
    if high == 4 and 0.0 in marks and unrated is None:
        raise UserError(
            f"ratings are 0 to 4 (column {column}): 0 may be the lowest one, or stand for none",
            where=where,
            hint=f"if it is the lowest: {options({'rating_scale': '0-4'})}; else the same with 0.5-5",
        )
    if high <= HIGHEST:
        return Scale(LOWEST, HIGHEST, marks)
    for usual in (HIGHEST, 10.0):
        stray = float((value > usual).mean())
        if stray <= MOST_STRAY and high > usual:
            allowed_share = math.ceil(100 * stray + 1e-9) / 100
            raise UserError(
                f"{int((value > usual).sum()):,} of {len(value):,} ratings are above {usual:g} (column {column})",
                where=where,
                hint="correct them, or leave these lines out: "
                + options(
                    {"rating_scale": f"{LOWEST if usual == HIGHEST else 1:g}-{usual:g}", "max_bad_lines": allowed_share}
                )
                + f"; if the scale does go to {high:g}, say so in the same way",
            )
    if 7 < high <= 10:
        return Scale(min(1.0, float(np.floor(low * 2) / 2)) if low > 0 else 0, 10, marks)
    if 50 < high <= 100:
        return Scale(0, 100, marks)
    if high > 100:
        raise UserError(
            f"ratings reach {high:g} (column {column}): they look like counts",
            where=where,
            hint=f"take them so: {options({'rating': None, 'count': column})}",
        )
    _refuse(f"ratings reach {high:g}", f"{0 if low < 1 else 1}-{high:g}", column, where)
    raise AssertionError


def _marks(value: np.ndarray, scale: str | None) -> tuple[float, ...]:
    """-1 where it is the only number below 0 among ratings, 0 where they are whole numbers up to 10 at most."""
    if len(value) == 0 or (scale is not None and scale.startswith(("-", "0-"))):
        return ()
    highest = np.sort(value)[len(value) - 1 - int(STRAY * len(value))]
    marks = []
    if highest > 1 and (value == -1).any() and (value[value < 0] == -1).all():
        marks.append(-1.0)
    rest = value[value != -1]
    if 1 < highest <= 10 and (rest == 0).any() and (rest[rest <= 10] == np.floor(rest[rest <= 10])).all():
        marks.append(0.0)
    return tuple(marks)


def _refuse(what: str, scale: str, column: str, where: str) -> None:
    raise UserError(
        f"{what} (column {column}), which may be more than one scale",
        where=where,
        hint=f"give its lowest and highest: {options({'rating_scale': scale})}",
    )


def _without(file: FileTable, stars: np.ndarray, outside: np.ndarray, reason: str, limit: float) -> FileTable:
    """The file's table with `stars`, without the rows `outside`, which are refused."""
    place = file.table.schema.get_field_index("rating")
    table = file.table.set_column(
        place, file.table.schema.field(place), pa.array(stars, pa.float32(), from_pandas=True)
    )
    if not outside.any():
        return replace(file, table=table)
    lost = table.filter(pa.array(outside))
    texts = [f"{u} {i}" for u, i in zip(lost["user_id"].to_pylist(), lost["item_id"].to_pylist())]
    refused = rejected_table(file.file, lost["line"].to_pylist(), [reason] * len(texts), texts)
    rejected = pa.concat_tables([file.rejected, refused])
    tolerate(rejected, file.account.lines, limit, file.file)
    account = replace(file.account, accepted=file.account.accepted - len(texts), rejected=rejected.num_rows)
    return replace(file, table=table.filter(pa.array(~outside)), rejected=rejected, account=account)
