"""Dates as text: what databases, spreadsheets and programs print, as Unix seconds.

A value is cut into date, time of day, half of the day and offset by one pattern, the date by one of a few. Fractions of
a second are cut off, offsets are taken into account, without one the time is UTC.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # no array: to make one imports pandas
WEEKDAY = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+"
WHOLE = (
    r"^(?P<date>.*?)(?:(?:[T,_]|\s)\s*(?:at\s+)?(?P<hour>\d{1,2})[:.h](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,:]\d+)?)?"
    r"\s*(?P<half>(?i:a\.?\s?m\.?|p\.?\s?m\.?))?"
    r"\s*(?P<zone>(?:UTC|GMT|UT|Z|z|[ECMP][SD]T|CES?T)?(?:[+-]\d{1,2}(?::?\d{2})?(?::\d{2})?)?)"
    r"\s*(?:\([^)]*\)|\[[^\]]*\])?(?:\s+(?P<tail>\d{4}))?)?$"
)
COMPACT = r"^(\d{8})T?(\d{2})(\d{2})(\d{2})((?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)$"
APACHE = r"^(\d{1,2}/[A-Za-z]{3}/\d{4}):"
FORMS = (
    r"^(?P<y>\d{4})(?:[-/. ]|年)(?P<m>\d{1,2})(?:[-/. ]|月)(?P<d>\d{1,2})日?$",
    r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})$",
    r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?P<d>)$",  # a month: its first day
    r"^(?P<d>\d{1,2})(?:st|nd|rd|th)?[-/. ]+(?:of )?(?P<m>[A-Za-z]{3})[A-Za-z]*\.?[-/., ]+(?P<y>\d{4}|\d{2})$",
    r"^(?P<m>[A-Za-z]{3})[A-Za-z]*\.?[-/ ]+(?P<d>\d{1,2})(?:st|nd|rd|th)?(?:,?[-/ ]+(?P<y>\d{4}))?$",
    r"^(?P<y>\d{4})[-/ ](?P<m>[A-Za-z]{3})[A-Za-z]*[-/ ](?P<d>\d{1,2})$",
)
DAY_FIRST_OR_MONTH_FIRST = r"^(?P<a>\d{1,2})(?P<mark>[-/. ])\s*(?P<b>\d{1,2})[-/., ]+(?P<y>\d{4}|\d{2})$"
ZONES = "EST EDT CST CDT MST MDT PST PDT CET CEST".split()  # of RFC 822, and Central Europe's
ZONE_HOURS = np.array([-5, -4, -6, -5, -7, -6, -8, -7, 1, 2])
PIVOT = 70  # two digits of a year: 70 is 1970, 69 is 2069


def seconds_of_dates(text: pa.Array, day_first: bool | None, year_first: bool = False) -> np.ndarray:
    """float64 Unix seconds, NaN for what is no date.

    Args:
        day_first: how 03/04/2017 is meant; None: such are no dates.
        year_first: 17-04-03 is in 2017.
    """
    parts = _parts(text)
    date, tail = parts["date"], parts["tail"]
    seconds = np.full(len(text), np.nan)
    for form in FORMS:
        todo = np.flatnonzero(np.isnan(seconds))
        if len(todo) == 0:
            break
        places = pa.array(todo)
        found = _extracted(date.take(places), form)
        year = pc.if_else(pc.equal(found["y"], ""), tail.take(places), found["y"])
        seconds[todo] = days_since_1970(_numbers(year), _month(found["m"]), _day(found["d"])) * 86_400
    if np.isnan(seconds).any():
        a, b, year, dots = _either(date)
        if year_first:
            a, year, day_first = year, a, True
        first = dots if day_first is None else dots | day_first
        month, day = np.where(first, b, a), np.where(first, a, b)
        if day_first is None:
            month = np.where(dots, month, np.nan)
        seconds = np.where(np.isnan(seconds), days_since_1970(year, month, day) * 86_400, seconds)
    return seconds + _time_of_day(parts)


def day_or_month_first(text: pa.Array) -> tuple[int, int, str | None]:
    """How many dates like 14/07/2017 tell that days come first, how many like 07/14/2017 that months do, and an
    example of those that tell neither.
    """
    a, b, _, dots = _either(_parts(text)["date"])
    plain = ~dots & ~np.isnan(a)
    either = np.flatnonzero(plain & (a <= 12) & (b <= 12) & (a != b))
    return (
        int((plain & (a > 12)).sum()),
        int((plain & (b > 12)).sum()),
        text[int(either[0])].as_py() if len(either) else None,
    )


def year_may_be_first(text: pa.Array) -> tuple[bool, str | None]:
    """Whether dates like 98-04-30 tell that years come first; an example of those like 17-04-30 whose first number
    varies less than the last, as years do.
    """
    found = _extracted(_parts(text)["date"], DAY_FIRST_OR_MONTH_FIRST)
    short = np.asarray(pc.fill_null(pc.equal(pc.utf8_length(found["y"]), 2), False))
    if not short.any():
        return False, None
    a, b, last = (_numbers(found[key].filter(pa.array(short))) for key in "aby")
    fits = bool((b <= 12).all() and (last >= 1).all() and (last <= 31).all())
    if not fits or len(np.unique(a)) >= len(np.unique(last)):
        return False, None
    return bool((a > 31).any()), text[int(np.flatnonzero(short)[0])].as_py()


def _parts(text: pa.Array) -> dict[str, pa.Array]:
    text = pc.utf8_trim_whitespace(text)
    for pattern, by in ((WEEKDAY, ""), (COMPACT, r"\1 \2:\3:\4\5"), (APACHE, r"\1 ")):
        text = pc.replace_substring_regex(text, pattern, by)
    return _extracted(text, WHOLE)


def _extracted(text: pa.Array, pattern: str) -> dict[str, pa.Array]:
    """The named groups of a pattern; null where it does not match, empty where a group takes no part."""
    found = pc.extract_regex(text, pattern)
    return {field.name: pc.struct_field(found, field.name) for field in found.type}


def _either(date: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First and second number and year of dates that may be meant either way; whether dots part them (days first)."""
    found = _extracted(date, DAY_FIRST_OR_MONTH_FIRST)
    dots = np.asarray(pc.fill_null(pc.equal(found["mark"], "."), False))
    return _numbers(found["a"]), _numbers(found["b"]), _numbers(found["y"]), dots


def _numbers(text: pa.Array) -> np.ndarray:
    """float64 of digits, NaN where there are none."""
    filled = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    return np.asarray(pc.cast(filled, pa.float64()).fill_null(np.nan))


def _month(text: pa.Array) -> np.ndarray:
    name = pc.index_in(pc.utf8_lower(text), value_set=pa.array(MONTHS))
    number = pc.if_else(pc.match_substring_regex(text, r"^\d+$"), text, pa.scalar(None, pa.string()))
    return np.where(np.asarray(pc.is_valid(name)), np.asarray(name.fill_null(0)) + 1.0, _numbers(number))


def _day(text: pa.Array) -> np.ndarray:
    """float64; 1 where a month is all that is given."""
    return np.where(np.asarray(pc.fill_null(pc.equal(text, ""), False)), 1.0, _numbers(text))


def days_since_1970(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """float64 days since 1970, NaN where there is no such day."""
    short = year < 100
    year = np.where(short, year + np.where(year < PIVOT, 2000, 1900), year)
    fits = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype(np.int64)
    first = months.astype("datetime64[M]")
    length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
    days = first.astype("datetime64[D]").astype(np.int64) + np.where(fits, day, 1) - 1
    return np.where(fits & (day <= length), days, np.nan)


def _time_of_day(parts: dict[str, pa.Array]) -> np.ndarray:
    """float64 seconds to add to the day: time less offset; 0 where no time is given, NaN where it is impossible."""
    hour, minute, second = (_numbers(parts[key]) for key in ("hour", "minute", "second"))
    half = pc.utf8_lower(pc.utf8_slice_codeunits(parts["half"], 0, 1))
    has_half = np.asarray(pc.fill_null(pc.not_equal(half, ""), False))
    after_noon = np.asarray(pc.fill_null(pc.equal(half, "p"), False))
    wrong = (hour > 23) | (minute > 59) | (second > 60) | (has_half & ((hour < 1) | (hour > 12)))
    hour = np.where(has_half, hour % 12 + 12 * after_noon, hour)
    ahead = _extracted(parts["zone"], r"(?P<sign>[+-])(?P<hours>\d{1,2}):?(?P<minutes>\d{2})?(?::(?P<seconds>\d{2}))?$")
    offset = sum(
        np.nan_to_num(_numbers(ahead[key])) * n for key, n in (("hours", 3600), ("minutes", 60), ("seconds", 1))
    )
    named = pc.index_in(pc.utf8_trim_whitespace(parts["zone"]), value_set=pa.array(ZONES))
    offset += np.where(np.asarray(named.is_valid()), ZONE_HOURS[np.asarray(named.fill_null(0))] * 3600, 0)
    sign = np.where(np.asarray(pc.fill_null(pc.equal(ahead["sign"], "-"), False)), -1, 1)
    total = np.nan_to_num(hour) * 3600 + np.nan_to_num(minute) * 60 + np.nan_to_num(second) - sign * offset
    return np.where(wrong, np.nan, total)
