"""How a column of times is written: unit by magnitude, dates by their looks, day or month first by the values.

What would pass for seconds without being such (years, spreadsheets' day numbers, counters) is refused with the option
that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.hints import options
from raypref.data.sources.dates import (
    day_or_month_first,
    days_since_1970,
    seconds_of_dates,
    year_may_be_first,
)
from raypref.data.sources.files import NO_TIME
from raypref.data.sources.rows import LATEST, Rows, to_numbers
from raypref.errors import UserError

DAY = 86_400
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "days": 1 / DAY}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "days": "days"}
PAST = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": np.inf}  # a median below is of this unit: from 1973 to 5138 in each
EXCEL_EPOCH = 25_569  # day number of 1970-01-01 in Excel
SINCE = {"filetime": (1e7, 11_644_473_600), "ticks": (1e7, 62_135_596_800), "webkit": (1e6, 11_644_473_600)}
"""How many make a second, and the seconds from their first to 1970: of Windows, .NET and Chrome."""
SURE = 1e8  # seconds (March 1973): what lies before it is no time at which anyone clicked
LAST = 4.2e9  # seconds (2103): nor what lies behind it
ROUNDING = 5e-7  # seconds: a float64 holds nanoseconds since 1970 to some 128 of them


@dataclass(frozen=True)
class TimeForm:
    """How the times of a column are written."""

    numbers: str = "s"
    """What a number is: a unit, `date` (20170714), `order`, `year`, `excel` or one of `SINCE`."""
    day_first: bool | None = None
    """How 03/04/2017 is meant; None: no such date is among them."""
    year_first: bool = False
    """17-04-03 is in 2017."""
    pattern: str | None = None
    """A strptime pattern that all follow."""
    said: str = ""
    found: bool = True
    """Not given by the user: what lies at 1970, as zeros do, is no time."""

    def seconds_of(self, rows: Rows, name: str) -> np.ndarray:
        """The column as int64 Unix seconds; rows without such a time are refused."""
        column = rows.columns[name]
        number = to_numbers(column)
        value = np.floor(_of_numbers(number, self.numbers) + (ROUNDING if self.numbers == "ns" else 0))
        if pa.types.is_string(column.type):
            if self.pattern is not None:
                value = _by_pattern(column, self.pattern)
            elif np.isnan(number).any():
                value = np.where(np.isnan(number), seconds_of_dates(column, self.day_first, self.year_first), value)
            rows.refuse(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True), "time is missing")
        unit = PER_SECOND.get(self.numbers, 1)
        if unit > 1:
            rows.refuse((value < SURE) & (number >= SURE), f"time is not in {UNIT_NAMES[self.numbers]} as others are")
        if self.numbers != "order":
            rows.refuse((value >= 0) & (value < DAY) & self.found, "time is 1970-01-01, as if there were none")
            rows.refuse(~(value >= 0), NO_TIME)
        rows.refuse(~(np.abs(value) <= LATEST), NO_TIME)
        return np.where(rows.good, value, 0).astype(np.int64)


def time_form(column: Callable[[], Iterable[pa.Array]], name: str, given: str | None, where: str) -> TimeForm:
    """The form of a column's times, as given or as its values suggest.

    Args:
        column: gives the column anew, block by block; only the first is looked at, unless days and months can't be told
            apart there.

    Raises:
        UserError: the numbers are no times since 1970, or days and months can't be told apart.
    """
    if given is not None:
        return _given(given)
    first = next(iter(column()), None)
    if first is None:
        return TimeForm()
    number = to_numbers(first)
    valid = number[np.isfinite(number)]
    filled = len(first) - first.null_count
    if len(valid) * 2 >= max(filled, 1):
        return _of_sample(valid, name, where)
    if not pa.types.is_string(first.type):
        return TimeForm()
    return _of_dates(column, name, where)


def _given(given: str) -> TimeForm:
    if "%" in given:
        return TimeForm(pattern=given, said=f"times {given}", found=False)
    if given in ("day-first", "month-first", "year-first"):
        year = given == "year-first"
        return TimeForm(day_first=given == "day-first", year_first=year, said=f"dates {given}", found=False)
    return TimeForm(given, said=f"times in {UNIT_NAMES.get(given, given)}", found=False)


def _of_sample(value: np.ndarray, name: str, where: str) -> TimeForm:
    """The form of numbers, by a sample of them."""
    whole = bool((value == np.floor(value)).all())
    if whole and np.isfinite(_packed(value)).mean() > 0.99:
        return TimeForm("date", said="times are dates like 20170714")
    low, high, middle = float(value.min()), float(value.max()), float(np.median(value))
    if whole and low >= 1900 and high <= 2100:
        _refuse("the times are years", "year", name, low, high, where)
    if low > EXCEL_EPOCH and high <= 80_000:
        _refuse("the times look like a spreadsheet's day numbers", "excel", name, low, high, where)
    if low >= 7_000 and high <= EXCEL_EPOCH:
        _refuse("the times look like days since 1970", "days", name, low, high, where)
    if low >= 0 and high < DAY:
        _refuse("all times lie within a day of 1970-01-01: they are no Unix times", "order", name, low, high, where)
    if middle < SURE:
        _refuse("the times lie before 1973: they are no Unix times", "order", name, low, high, where)
    for form, (per_second, since) in SINCE.items():
        if 631_152_000 <= middle / per_second - since <= LAST:  # 1990
            _refuse(f"the times look like those of {MAKERS[form]}", form, name, low, high, where)
    unit = next(unit for unit, past in PAST.items() if middle < past)
    if middle / PER_SECOND[unit] > LAST:
        raise UserError(
            f"the times lie in the future (column {name}: {low:g} to {high:g})",
            where=where,
            hint="write them as seconds since 1970, or as dates",
        )
    return TimeForm(unit, said=f"times in {UNIT_NAMES[unit]}")


MAKERS = {
    "filetime": "Windows (100 ns since 1601)",
    "ticks": ".NET (100 ns since 1)",
    "webkit": "Chrome (us since 1601)",
}


def _refuse(what: str, form: str, name: str, low: float, high: float, where: str) -> None:
    meant = "if they count a user's steps" if form == "order" else "to take them so"
    raise UserError(
        f"{what} (column {name}: {low:g} to {high:g})", where=where, hint=f"{meant}: {options({'time_format': form})}"
    )


def _of_dates(column: Callable[[], Iterable[pa.Array]], name: str, where: str) -> TimeForm:
    """The form of dates as text; reads on where the first block does not tell days from months."""
    example = None
    for block in column():
        sure, short = year_may_be_first(block)
        if sure:
            return TimeForm(day_first=False, year_first=True, said="dates year first")
        if short is not None:
            raise UserError(
                f"days and years can't be told apart in column {name}: {short!r}",
                where=where,
                hint=f"say which comes first: {options({'time_format': 'year-first'})}, or day-first, month-first",
            )
        days, months, either = day_or_month_first(block)
        if days or months:
            return TimeForm(day_first=days >= months, said=f"dates {'day' if days >= months else 'month'} first")
        example = example or either
        if example is None:
            break
    if example is None:
        return TimeForm(said="times are dates")
    raise UserError(
        f"days and months can't be told apart in column {name}: {example!r}",
        where=where,
        hint=f"say which comes first: {options({'time_format': 'day-first'})}, or month-first",
    )


def _of_numbers(value: np.ndarray, form: str) -> np.ndarray:
    """float64 Unix seconds of numbers."""
    with np.errstate(invalid="ignore"):
        if form == "date":
            return _packed(value)
        if form == "year":
            return np.where(value == np.floor(value), _days_from_civil(value, 1, 1) * DAY, np.nan)
        if form == "excel":
            return (value - EXCEL_EPOCH) * DAY
        if form in SINCE:
            per_second, since = SINCE[form]
            return value / per_second - since
        return value / PER_SECOND.get(form, 1)


def _packed(value: np.ndarray) -> np.ndarray:
    """Unix seconds of 20170714, 201707 (its first day), 201707142359 and 20170714235959; NaN of anything else."""
    whole = np.where(np.isfinite(value) & (np.abs(value) < 1e15), value, 0).astype(np.int64)
    seconds = np.full(len(value), np.nan)
    for digits, (low, high) in {14: (1e13, 1e14), 12: (1e11, 1e12), 8: (1e7, 1e8), 6: (1e5, 1e6)}.items():
        here = (whole >= low) & (whole < high)
        if not here.any():
            continue
        padded = whole[here] * {14: 1, 12: 10**2, 8: 10**6, 6: 10**8}[digits] + (10**6 if digits == 6 else 0)
        date, clock = padded // 10**6, padded % 10**6
        year, month, day = date // 10_000, date // 100 % 100, date % 100
        hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
        good = (year >= 1900) & (year <= 2100) & (hour < 24) & (minute < 60) & (second < 60)
        days = _days_from_civil(year, month, day)
        seconds[here] = np.where(good, days * DAY + hour * 3600 + minute * 60 + second, np.nan)
    return seconds


def _days_from_civil(year: np.ndarray, month: np.ndarray | int, day: np.ndarray | int) -> np.ndarray:
    shape = np.zeros_like(np.asarray(year, dtype=np.float64))
    return days_since_1970(year + shape, month + shape, day + shape)


def _by_pattern(column: pa.Array, pattern: str) -> np.ndarray:
    parsed = pc.strptime(pc.utf8_trim_whitespace(column), format=pattern, unit="s", error_is_null=True)
    seconds: np.ndarray = np.asarray(parsed.cast(pa.int64()).cast(pa.float64()).fill_null(np.nan))
    return seconds
