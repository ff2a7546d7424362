"""Times as databases, spreadsheets and programs print them; numbers that are no times; ids that are not there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from raypref.errors import UserError
from tests.support.own_files import LENGTH, USERS, events, expected, facts, lines, read, said, write

CLOCK = 1_600_000_000  # 2020-09-13 12:26:40 UTC, a Sunday


def seconds(written: str, tmp_path, **options) -> int | None:
    """Unix seconds of one time among rows that say how days and months are meant."""
    rows = [f"a|x|5|{written}|T", *(f"b|y|5|{other}|T" for other in options.pop("beside", ()))]
    content = ["user|item|rating|timestamp|title", *rows]
    log = read(write(tmp_path / "x.csv", content), max_bad_lines=0.9, **options)
    return next((time for user, _, _, time, _ in facts(log) if user == "a"), None)


@pytest.mark.parametrize(
    "written",
    [
        "2020-09-13 12:26:40+00",  # PostgreSQL
        "2020-09-13 13:26:40.895+01",
        "2020-09-13 05:26:40-07",
        "2020-09-13 17:56:40.123456+05:30",
        "2020-09-13 12:26:40 UTC",  # BigQuery
        "2020-09-13 12:26:40.895 UTC",
        "2020-09-13 12:26:40",  # SQLite, MySQL
        "2020-09-13 12:26:40.895",
        "2020-09-13T12:26:40Z",  # ISO, JavaScript
        "2020-09-13T12:26:40.895Z",
        "2020-09-13T14:26:40+0200",
        "2020-09-13T14:26:40+02:00[Europe/Berlin]",  # Java
        "2020-09-13 12:26:40.895000+00:00",  # pandas
        "2020-09-13 13:26:40.8950000 +01:00",  # SQL Server
        "2020-09-13 12:26:40,895",  # Python's logging
        "2020/09/13 12:26:40",
        "20200913T122640Z",
        "20200913122640",
        "13-SEP-20 12.26.40.895000 PM",  # Oracle
        "13/Sep/2020:12:26:40 +0000",  # Apache
        "Sun Sep 13 12:26:40 2020",  # C
        "Sun Sep 13 05:26:40 -0700 2020",
        "Sun, 13 Sep 2020 12:26:40 GMT",  # HTTP
        "13.09.2020 12:26:40",
        "9/13/2020 12:26:40 PM",
        "Sep 13, 2020 at 12:26:40 PM",
        "2020-09-13 08:26:40 EDT",
        "2020-09-13 14:26:40 CEST",
    ],
)
def test_one_instant_as_many_print_it(written, tmp_path):
    assert seconds(written, tmp_path) == CLOCK


@pytest.mark.parametrize(
    "written",
    [
        "2020-09-13",
        "2020-9-13",
        "20200913",
        "09 13, 2020",
        "Sep 13, 2020",
        "13 September 2020",
        "13.9.2020",
        "9/13/20",
        "2020年9月13日",
    ],
)
def test_one_day_as_many_print_it(written, tmp_path):
    assert seconds(written, tmp_path) == CLOCK - 44_800


@pytest.mark.parametrize("written", ["2020-09-13T12:26", "2020-09-13 12:26", "9/13/2020 12:26", "13.09.2020 12:26"])
def test_minutes_are_enough(written, tmp_path):
    assert seconds(written, tmp_path) == CLOCK - 40


@pytest.mark.parametrize("written", ["2020-02-30", "2020-13-01", "2020-09-13 25:00", "yesterday", "", "1969-12-31"])
def test_what_is_no_time_is_one_broken_line(written, tmp_path):
    assert seconds(written, tmp_path, beside=["2020-09-13", "2020-09-14"]) is None


def test_a_month_is_its_first_day(tmp_path):
    assert seconds("2020-09", tmp_path) == datetime(2020, 9, 1, tzinfo=timezone.utc).timestamp()


def test_two_digits_of_a_year_that_comes_first(tmp_path):
    """20-09-13 is no 20 September 2013, unless someone says so; 98-09-13 can be nothing else."""
    file = write(tmp_path / "x.csv", lines(timestamp=_dated("%y-%m-%d")))
    with pytest.raises(UserError, match="days and years can't be told apart") as caught:
        read(file)
    assert "--data.source.time-format year-first" in caught.value.hint
    wanted = sorted(e.time // 86_400 * 86_400 for e in events())
    assert sorted(row[3] for row in facts(read(file, time_format="year-first"))) == wanted
    earlier = lines(timestamp=lambda e: _dated("%y-%m-%d")(e).replace("20-", "98-", 1))
    log = read(write(tmp_path / "y.csv", earlier))
    assert "dates year first" in said(log)
    assert {datetime.fromtimestamp(row[3], timezone.utc).year for row in facts(log)} == {1998}


@pytest.mark.parametrize(("zero", "parquet"), [("0", False), ("0", True), ("1970-01-01", False)])
def test_zeros_among_times_are_no_times(zero, parquet, tmp_path):
    dates = _dated("%Y-%m-%d") if "-" in zero else lambda e: str(e.time)
    file = write(tmp_path / "x.csv", lines(timestamp=lambda e: zero if e.item == "i3" else dates(e)))
    if parquet:
        pd.read_csv(file).to_parquet(tmp_path / "x.parquet")
        file = tmp_path / "x.parquet"
    log = read(file, max_bad_lines=0.1)
    assert {r["reason"] for r in log.rejected.to_pylist()} == {"time is 1970-01-01, as if there were none"}
    assert log.rejected.num_rows == sum(e.item == "i3" for e in events())


def test_half_days(tmp_path):
    for written, hour in (("12:05 AM", 0), ("12:05 PM", 12), ("1:05 am", 1), ("11:05 p.m.", 23)):
        assert seconds(f"9/13/2020 {written}", tmp_path) == CLOCK - 44_800 + hour * 3600 + 300


def _dated(form: str):
    return lambda e: datetime.fromtimestamp(e.time, timezone.utc).strftime(form)


@pytest.mark.parametrize(
    ("form", "what"), [("%m/%d/%Y %H:%M:%S", "dates month first"), ("%d/%m/%Y %H:%M:%S", "dates day first")]
)
def test_day_or_month_first_is_decided_by_the_values(form, what, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(timestamp=_dated(form))))
    assert facts(log) == expected()
    assert what in said(log)


def test_day_or_month_first_that_nothing_decides_is_refused(tmp_path):
    file = write(tmp_path / "x.csv", lines(timestamp=lambda e: f"0{e.time % 8 + 1}/0{e.time % 7 + 1}/2020"))
    with pytest.raises(UserError, match="days and months can't be told apart") as caught:
        read(file)
    assert "--data.source.time-format day-first" in caught.value.hint
    content = ["user,item,rating,timestamp,title", "a,x,5,03/04/2017,T"]
    first = read(write(tmp_path / "a.csv", content), time_format="day-first")
    assert facts(first)[0][3] == int(datetime(2017, 4, 3, tzinfo=timezone.utc).timestamp())


def test_days_and_months_are_decided_behind_the_first_block(tmp_path, monkeypatch):
    from raypref.data.sources.lines import line_blocks

    monkeypatch.setattr(line_blocks, "__defaults__", (b"\n", False, 60))
    content = ["user,item,rating,timestamp,title", *(f"u{i},x,5,0{i % 9 + 1}/02/2017,T" for i in range(50))]
    content.append("u,x,5,05/31/2017,T")
    assert "month first" in said(read(write(tmp_path / "x.csv", content)))


UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


@pytest.mark.parametrize(("unit", "factor"), UNITS.items())
@pytest.mark.parametrize("parquet", [False, True])
def test_units_by_magnitude(unit, factor, parquet, tmp_path):
    file = write(tmp_path / "x.csv", lines(timestamp=lambda e: str(e.time * factor)))
    if parquet:
        pd.read_csv(file).to_parquet(tmp_path / "x.parquet")
        file = tmp_path / "x.parquet"
    log = read(file)
    assert facts(log) == expected()
    assert f"times in {unit}" in said(log)


def test_a_time_in_another_unit_than_the_rest_is_a_broken_line(tmp_path):
    content = lines(timestamp=lambda e: str(e.time * 1000))
    content[5] = content[5].replace("000,Title", ",Title")
    log = read(write(tmp_path / "x.csv", content))
    assert log.rejected.to_pylist()[0]["line"] == 6
    assert log.rejected.to_pylist()[0]["reason"] == "time is not in milliseconds as others are"


@pytest.mark.parametrize(("form", "what"), [("%Y%m%d", "2020"), ("%Y%m%d%H%M%S", "2020"), ("%Y%m%d%H%M", "2020")])
def test_dates_as_whole_numbers_are_dates(form, what, tmp_path):
    log = read(write(tmp_path / "x.csv", lines(timestamp=_dated(form))))
    wanted = [datetime.strptime(_dated(form)(e), form).replace(tzinfo=timezone.utc).timestamp() for e in events()]
    assert sorted(row[3] for row in facts(log)) == sorted(wanted)
    assert "times are dates" in said(log)


def _excel(e) -> str:
    since = datetime.fromtimestamp(e.time, timezone.utc) - datetime(1899, 12, 30, tzinfo=timezone.utc)
    return str(since / timedelta(days=1))


@pytest.mark.parametrize(
    ("times", "what", "option"),
    [
        (lambda e: str(2000 + (e.time // 10**6) % 20), "the times are years", "year"),
        (_excel, "a spreadsheet's day numbers", "excel"),
        (lambda e: str((e.time - CLOCK) // 604_800), "within a day of 1970", "order"),
        (lambda e: str(e.time // 3600), "before 1973", "order"),
        (lambda e: str(e.time // 86_400 - 20_000), "before 1973", "order"),
        (lambda e: str(e.time / 86_400), "days since 1970", "days"),
        (lambda e: str((e.time + 11_644_473_600) * 10**7), "those of Windows", "filetime"),
        (lambda e: str((e.time + 62_135_596_800) * 10**7), "those of .NET", "ticks"),
        (lambda e: str((e.time + 11_644_473_600) * 10**6), "those of Chrome", "webkit"),
    ],
)
def test_numbers_that_are_no_times_are_refused_with_the_option_that_reads_them(times, what, option, tmp_path):
    file = write(tmp_path / "x.csv", lines(timestamp=times))
    with pytest.raises(UserError, match=what) as caught:
        read(file)
    assert f"--data.source.time-format {option}" in caught.value.hint
    log = read(file, time_format=option)
    assert log.interactions.num_rows == USERS * LENGTH
    if option not in ("year", "order"):
        assert max(abs(a[3] - b[3]) for a, b in zip(facts(log), expected())) <= 1


def test_a_pattern_of_ones_own(tmp_path):
    form = "%Hh%M %d of %m in %Y"
    log = read(write(tmp_path / "x.csv", lines(timestamp=_dated(form))), time_format=form)
    assert [row[3] // 60 for row in facts(log)] == [row[3] // 60 for row in expected()]


MISSING = ["", "nan", "NaN", "None", "NULL", "null", "<NA>", "\\N"]


@pytest.mark.parametrize("word", MISSING)
@pytest.mark.parametrize("column", ["user", "item"])
def test_ids_that_are_not_there_are_counted_and_never_a_user(word, column, tmp_path):
    changed = {column: lambda e: word if e.user == "u0" else getattr(e, column)}
    file = write(tmp_path / "x.csv", lines(**changed))
    with pytest.raises(UserError, match=r"10 of 240 lines are broken"):
        read(file)
    log = read(file, max_bad_lines=0.05)
    assert log.interactions.num_rows == USERS * LENGTH - LENGTH
    assert word not in log.users["user_id"].to_pylist() + log.items["item_id"].to_pylist()


def test_floats_of_a_column_with_a_gap_are_the_ids_they_were(tmp_path):
    frame = pd.DataFrame(
        [(float(e.user[1:]), float(e.item[1:]), e.rating, e.time, e.title) for e in events()],
        columns=["user", "item", "rating", "timestamp", "title"],
    )
    frame.loc[0, "user"] = np.nan
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_csv(tmp_path / "x.csv", index=False)
    for name in ("x.parquet", "x.csv"):
        log = read(tmp_path / name)
        assert set(log.users["user_id"].to_pylist()) == {str(u) for u in range(USERS)}
        assert [r["reason"] for r in log.rejected.to_pylist()] == ["user is empty"]


def test_floats_past_what_they_can_hold_are_refused(tmp_path):
    ids = [76561190000000000 + int(e.user[1:]) for e in events()]
    frame = pd.DataFrame({"user": np.array(ids, dtype=float), "item": [e.item for e in events()]})
    frame["rating"], frame["timestamp"], frame["title"] = 5, [e.time for e in events()], "T"
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"floats past 2\*\*53"):
        read(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="user is a rounded number"):
        read(write(tmp_path / "x.csv", lines(user=lambda e: f"{76561190000000000 + int(e.user[1:]):.5e}")))
    whole = read(write(tmp_path / "y.csv", lines(user=lambda e: str(76561190000000000 + int(e.user[1:])))))
    assert whole.users.num_rows == USERS
