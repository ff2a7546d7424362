"""The files of people's reports, one by one: read in little time and said in a line, or refused with a hint that works.

The cases themselves are no part of the repository: without them (RAYPREF_CASES, else ../shared/cases) this is skipped.
The kinds that they stand for are held by the tests beside this one, on files that these make.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from raypref.commands import data as commands
from raypref.config.loading import merge
from raypref.errors import UserError
from tests.data.test_kind_hints_work import IN_YAML, MOST_STEPS
from tests.support.own_files import write

CASES = Path(os.environ.get("RAYPREF_CASES") or Path(__file__).parents[3] / "shared" / "cases")
MOST_SECONDS = 2.0  # of user CPU, the start of Python and all imports included; 1.3 were seen

SECONDS, DATES = "times in seconds", "times are dates"
STARS = "ratings 0.5 to 5"
# Case, file, lines accepted, and what the line on assumptions must say. None: as the first of the case.
READ = [
    ("02-title-not-composed", "x.csv", 480, ("separator comma", "utf-8", SECONDS, STARS)),
    ("02-title-not-composed", "pairs.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("04-special-token-in-title", "x.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("04-special-token-in-title", "llara.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("07-gz-name-and-content", "x.csv.gz", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("07-gz-name-and-content", "b.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("07-gz-name-and-content", "c.csv.GZ", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("08-times-as-databases-print-them", "x.csv", 192, ("separator comma", "utf-8", DATES, STARS)),
    ("08-times-as-databases-print-them", "utc.csv", 192, ("separator comma", "utf-8", DATES, STARS)),
    ("08-times-as-databases-print-them", "minutes.csv", 192, ("separator comma", "utf-8", DATES, STARS)),
    ("09-parquet-types", "plain.parquet", 192, ("Parquet", SECONDS, STARS)),
    ("09-parquet-types", "string_view.parquet", 192, ("Parquet", SECONDS, STARS)),
    ("09-parquet-types", "X.PARQUET", 192, ("Parquet", SECONDS, STARS)),
    ("09-parquet-types", "parts", 192, ("Parquet", SECONDS, STARS)),
    ("10-two-columns-share-a-name", "x.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("10-two-columns-share-a-name", "note.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("16-dates-as-integers", "x.csv", 192, ("separator comma", "utf-8", "times are dates like 20170714", STARS)),
    ("17-line-breaks-in-quotes", "x.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("17-line-breaks-in-quotes", "mac.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("18-quotes-that-are-text", "x.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("18-quotes-that-are-text", "x.tsv", 192, ("separator tab", "utf-8", SECONDS, STARS)),
    (
        "19-other-rating-scales",
        "x.csv",
        192,
        ("separator comma", "utf-8", SECONDS, "ratings 1 to 10, times 0.5, unrated: -1"),
    ),
    ("19-other-rating-scales", "comma.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("20-one-long-title", "x.csv", 192, ("separator comma", "utf-8", SECONDS, STARS)),
    ("25-metric-nan", "x.csv", 480, ("separator comma", "utf-8", SECONDS, STARS)),
    ("28-other-separators", "plain.csv", 192, ("separator ;", "utf-8", SECONDS, STARS)),
    ("28-other-separators", "tabs.csv", 192, ("separator tab", "utf-8", SECONDS, STARS)),
    ("28-other-separators", "latin1.csv", 192, ("separator comma", "cp1252 (guessed", SECONDS, STARS)),
    ("40-ratings-and-items", "amazon_date.csv", 80, ("separator comma", "utf-8", "dates month first", STARS)),
    ("40-ratings-and-items", "doublecolon.dat", 80, ("separator ::", "utf-8", SECONDS, STARS)),
    ("40-ratings-and-items", "multiline.csv", 80, ("separator comma", "utf-8", DATES, STARS)),
    ("40-ratings-and-items", "semicolon.csv", 80, ("separator ;", "utf-8", SECONDS, STARS)),
    ("40-ratings-and-items", "tenpoint.csv", 80, ("separator comma", "utf-8", SECONDS, "ratings 1 to 10, times 0.5")),
    ("40-ratings-and-items", "us_dates.csv", 80, ("separator comma", "utf-8", "dates month first", STARS)),
    ("40-ratings-and-items", "utc_suffix.csv", 80, ("separator comma", "utf-8", DATES, STARS)),
    ("40-ratings-and-items", "yyyymmdd.csv", 80, ("separator comma", "utf-8", "times are dates like 20170714", STARS)),
    ("40-ratings-and-items", "zero_unrated.csv", 80, ("separator comma", "utf-8", SECONDS, "unrated: 0 (8)")),
]
# What no option mends: the users of the case have met all its items, so that nothing can be drawn.
BEYOND_OPTIONS = ("take more items: some user has met all",)
# Case, file, settings; the lines that are accepted once the hints have been followed, of how many.
REFUSED = [
    ("11-one-user", "x.csv", {"k_core": 1, "split": "user"}, 20, 20),
    ("13-missing-and-float-ids", "text.csv", {"k_core": 1}, 160, 192),
    ("13-missing-and-float-ids", "nan.parquet", {"k_core": 1}, 160, 192),
    ("16-dates-as-integers", "year.csv", {"k_core": 1}, 192, 192),
    ("19-other-rating-scales", "x.csv", {"k_core": 1}, 192, 192),
    ("28-other-separators", "x.csv", {}, None, None),
    ("35-clicks-without-ratings", "clicks.csv", {}, None, None),
    ("40-ratings-and-items", "tenpoint.csv", {"k_core": 2}, 80, 80),
    ("40-ratings-and-items", "yyyymmdd.csv", {"k_core": 2}, 80, 80),
]


def case(name: str) -> Path:
    if not (CASES / name).is_dir():
        pytest.skip(f"the cases of real people are not here: {name} is not in {CASES}")
    return CASES / name


def shown(content: dict[str, Any], folder: Path) -> tuple[str, UserError | None]:
    """What `data show` prints of a config, and its refusal if there is one."""
    (folder / "asked.yaml").write_text(yaml.safe_dump(content))
    out = io.StringIO()
    console = commands.Console(file=out, width=200)
    try:
        with contextlib.redirect_stdout(out):
            commands.show(str(folder / "asked.yaml"), console=console)
    except UserError as error:
        return out.getvalue(), error
    return out.getvalue(), None


@pytest.mark.parametrize(("name", "file", "accepted", "phrases"), READ, ids=lambda v: v if isinstance(v, str) else "")
def test_what_should_be_read_is_read_and_said_in_one_line(name, file, accepted, phrases, tmp_path):
    content = {"data": {"source": {"kind": "csv", "path": str(case(name) / file)}, "k_core": 1}}
    text, _ = shown(content, tmp_path)  # a cut that a few users do not allow is refused below what is said
    lines = [line for line in text.splitlines() if line.startswith("assumed: ")]
    assert len(lines) == 1
    assert all(phrase in lines[0] for phrase in (*phrases, "ties")), lines[0]
    counts = [line.split(" lines, ")[1].split()[0] for line in text.splitlines() if " lines, " in line]
    assert sum(int(count.replace(",", "")) for count in counts) == accepted
    assert "refused" not in text.split("assumed: ")[0]


def test_offsets_are_taken_into_account(tmp_path):
    """One hour before the same with Z."""
    folder = case("08-times-as-databases-print-them")
    from tests.support.own_files import facts, read

    with_z = write(tmp_path / "z.csv", (folder / "x.csv").read_text().replace("+01", "Z"))
    times, later = ([row[3] for row in facts(read(path))] for path in (folder / "x.csv", with_z))
    assert [a + 3600 for a in times] == later


@pytest.mark.parametrize(
    ("name", "file", "settings", "accepted", "of"), REFUSED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_hint_of_every_refusal_leads_to_data_that_are_read(name, file, settings, accepted, of, tmp_path):
    content: dict[str, Any] = {"data": {"source": {"kind": "csv", "path": str(case(name) / file)}, **settings}}
    for _ in range(MOST_STEPS):
        text, error = shown(content, tmp_path)
        if error is None or error.hint in BEYOND_OPTIONS:
            break
        found = IN_YAML.search(error.hint)
        assert found, f"{error}\nnames no option"
        content = merge(content, yaml.safe_load(found["yaml"]))
    assert error is None or error.hint in BEYOND_OPTIONS, f"refused after {MOST_STEPS} hints: {error}"
    assert "assumed: " in text
    if accepted is not None:
        assert f"{of:,} lines, {accepted:,} accepted" in text
    else:
        assert "refused" not in text


def test_the_hint_for_a_name_given_twice_leads_to_data_that_are_read(tmp_path):
    import pyarrow.parquet as pq

    table = pq.ParquetFile(case("10-two-columns-share-a-name") / "twice.parquet").read()
    content = {"data": {"source": {"kind": "csv", "path": str(tmp_path / "x.parquet")}, "k_core": 1}}
    pq.write_table(table, tmp_path / "x.parquet")
    _, error = shown(content, tmp_path)
    assert error is not None
    assert error.hint == "rename one of them"
    last = len(table.column_names) - 1 - table.column_names[::-1].index("title")
    names = [f"{name} 2" if i == last else name for i, name in enumerate(table.column_names)]
    pq.write_table(table.rename_columns(names), tmp_path / "x.parquet")
    assert "192 lines, 192 accepted" in shown(content, tmp_path)[0]


def test_the_hint_for_ids_that_are_no_longer_exact_leads_to_the_users_that_there_are(tmp_path):
    frame = pd.read_parquet(case("13-missing-and-float-ids") / "float.parquet")
    content = {"data": {"source": {"kind": "csv", "path": str(tmp_path / "x.parquet")}, "k_core": 1}}
    frame.to_parquet(tmp_path / "x.parquet")
    _, error = shown(content, tmp_path)
    assert error is not None
    assert "write the ids as whole numbers or text" in error.hint
    frame["user"] = [str(76561190000000000 + i // 8) for i in range(len(frame))]  # as they were before pandas read them
    frame.to_parquet(tmp_path / "x.parquet")
    text, _ = shown(content, tmp_path)
    assert "192 lines, 192 accepted" in text
    assert " 24 " in next(line for line in text.splitlines() if "here" in line)


def test_a_web_page_is_named(tmp_path):
    content = {"data": {"source": {"kind": "csv", "path": str(case("07-gz-name-and-content") / "d.csv.gz")}}}
    _, error = shown(content, tmp_path)
    assert error is not None
    assert "a web page" in error.what
    assert "its end is missing" not in str(error)


@pytest.mark.measures
@pytest.mark.parametrize(("name", "file"), [row[:2] for row in READ])
def test_show_takes_little_time(name, file, tmp_path):
    content = {"data": {"source": {"kind": "csv", "path": str(case(name) / file)}, "k_core": 1}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-m", "raypref.cli", "data", "show", "x.yaml"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "assumed: " in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < MOST_SECONDS
