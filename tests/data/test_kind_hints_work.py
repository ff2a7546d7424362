"""Every hint of a refusal, followed to the letter, leads to data that are read: as options and in YAML alike."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tyro
import yaml

from raypref.commands import data as commands
from raypref.config.loading import merge
from raypref.config.sources import FileOptions
from raypref.data.reading import read_log
from raypref.data.sources.guesses import suggestions
from raypref.errors import UserError
from tests.support.own_files import ITEMS, LENGTH, USERS, events, lines, write

IN_YAML = re.compile(r"(?P<words>--\S.*?) \(in YAML: (?P<yaml>.*?\})\)(?=[;,.]|$)")
MOST_STEPS = 6


def _titles(folder: Path) -> None:
    write(folder / "books.csv", ["ISBN;Book-Title", *dict.fromkeys(f"{e.item};{e.title}" for e in events())])


def _books(folder: Path) -> Path:
    rows = [f'"{e.user}";"{e.item}";"{e.rating * 2}"' for e in events()]
    return write(folder / "x.csv", ['"User-ID";"ISBN";"Book-Rating"', *rows])


def _headless(folder: Path) -> Path:
    return write(folder / "x.dat", [f"{e.user[1:]}::{e.item[1:]}::{e.rating}::{e.time}" for e in events()])


def _clicks(folder: Path) -> Path:
    rows = [f"{e.user},{e.item},{k % LENGTH},{e.title}" for k, e in enumerate(events())]
    return write(folder / "x.csv", ["user,item,timestamp,title", *rows])


def _other_names(folder: Path) -> Path:
    rows = [f"{e.user},{e.item},{e.rating},{e.time},{e.title}" for e in events()]
    return write(folder / "x.csv", ["reviewerID,parent_asin,stars,unixReviewTime,name", *rows])


def _rated(written: list[Any]):
    def make(folder: Path) -> Path:
        source = iter(written * USERS * LENGTH)
        return write(folder / "x.csv", lines(rating=lambda e: str(next(source))))

    return make


def _timed(time):
    return lambda folder: write(folder / "x.csv", lines(timestamp=time))


def _few_items(folder: Path) -> Path:
    rows = [
        f"u{u},i{(u + k) % 12},{(u + k) % 5 + 1},{1_500_000_000 + k * 86_400},T{(u + k) % 12}"
        for u in range(9)
        for k in range(8)
    ]
    return write(folder / "x.csv", ["user,item,rating,timestamp,title", *rows])


def _some_broken(folder: Path) -> Path:
    return write(folder / "x.csv", lines(user=lambda e: "nan" if e.user == "u3" else e.user))


def _float_gap(folder: Path) -> Path:
    frame = pd.DataFrame([(float(e.user[1:]), e.item, e.rating, e.time, e.title) for e in events()])
    frame.columns = ["user", "item", "rating", "timestamp", "title"]
    frame.loc[frame["user"] == 3, "user"] = float("nan")
    frame.to_parquet(folder / "x.parquet")
    return folder / "x.parquet"


def _no_likes(folder: Path) -> Path:
    return write(folder / "x.csv", lines(rating=lambda e: "2"))


def _shop(folder: Path) -> Path:
    """Write a shop's columns: other names, ISO times, ids of nine digits, a comment that varies."""
    return write(folder / "x.tsv", ["customer_uuid\tsku\tstars\twhen\tbook_name\tprice\tcomment", *_shop_rows()])


def _shop_rows() -> list[str]:
    def row(k: int, e: Any) -> str:
        when = datetime.fromtimestamp(e.time, timezone.utc).isoformat()
        said = ("", "a great book", "not so great")[k % 3]
        return (
            f"c-{e.user}\t{978_000_000 + int(e.item[1:])}\t{e.rating}\t{when}\tThe {e.title}\t{3 + k % 27}.50\t{said}"
        )

    return [row(k, e) for k, e in enumerate(events())]


def _shop_without_header(folder: Path) -> Path:
    return write(folder / "x.tsv", _shop_rows())


def _shop_with_a_broken_header(folder: Path) -> Path:
    return write(folder / "x.tsv", ["customer_uuid\tsku\tst", *_shop_rows()])


REFUSED = {
    "a shop": _shop,
    "a shop without header": _shop_without_header,
    "books of another world": _books,
    "no header": _headless,
    "clicks": _clicks,
    "columns of other names": _other_names,
    "stars to 7": _rated([1, 4, 7]),
    "grades to 20": _rated([1, 15, 20]),
    "minus to plus ten": _rated([-10, 3, 10]),
    "every rating one": _rated([1]),
    "counts": _rated([3, 500, 7000, 12]),
    "years": _timed(lambda e: str(1990 + e.time // 604_800 % 20)),
    "a spreadsheet's days": _timed(lambda e: str(25_569 + e.time / 86_400)),
    "a counter": _timed(lambda e: str((e.time - 1_600_000_000) // 604_800)),
    "days or months": _timed(lambda e: f"0{e.time // 604_800 % 9 + 1}/0{e.time // 86_400 % 9 + 1}/2020"),
    "few items": _few_items,
    "some ids missing": _some_broken,
    "a gap in floats": _float_gap,
    "nothing liked": _no_likes,
    "stray ratings": _rated([5] * 22 + [4, 11]),
    "0 to 4": _rated([0, 1, 2, 3, 4]),
    "ratings in words": _rated(["good", "bad", "so so"]),
    "times in words": _timed(lambda e: f"week {e.time // 604_800}"),
    "years of two digits": _timed(lambda e: datetime.fromtimestamp(e.time, timezone.utc).strftime("%y-%m-%d")),
    "hours since 1970": _timed(lambda e: str(e.time // 3600)),
    "before 1970": _timed(lambda e: str(e.time // 86_400 - 20_000)),
}


def follow(read, apply) -> list[str]:
    """Read, and as long as that is refused do what the hint says; the hints that were followed."""
    hints: list[str] = []
    while (error := refusal(read)) is not None:
        hints.append(error.hint)
        assert len(hints) <= MOST_STEPS, hints
        found = IN_YAML.search(error.hint)
        assert found, f"{error}\nnames no option"
        apply(found["words"], found["yaml"])
    return hints


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_shop, "user customer_uuid item sku title book_name rating stars timestamp when"),
        (_shop_without_header, "header user item rating timestamp title column0 column1"),
        (_shop_with_a_broken_header, "header user item rating timestamp title column0 column1"),
    ],
)
def test_a_shops_columns_are_guessed(make, expected, tmp_path):
    error = refusal(lambda: commands.show(str(make(tmp_path))))
    assert error is not None
    assert IN_YAML.search(error.hint)["words"].replace("--data.source.", "") == expected


def test_a_header_shorter_than_the_lines_is_told_at_once(tmp_path):
    file = _shop_with_a_broken_header(tmp_path)
    error = refusal(lambda: commands.show(str(file)))
    assert error is not None
    assert error.what == "the header names 3 columns, the lines have 7"
    words = shlex.split(IN_YAML.search(error.hint)["words"])
    log = read_log(commands.data_config(str(file), own=FileOptions(header=tuple(words[1:]))))
    assert log.interactions.num_rows == USERS * LENGTH
    assert log.rejected["line"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("listener track last_played track_name artist_name", "listener track track_name None last_played"),
        ("account_id episode_id score at episode episode_name", "account_id episode_id episode_name score at"),
        ("user_name product_title productId playedAt stars", "user_name productId product_title stars playedAt"),
        ("order_id customer item_key brand_name item_name date", "customer item_key item_name None date"),
    ],
)
def test_guesses_by_words_in_names(names, expected):
    keys = ("user", "item", "title", "rating", "timestamp")
    found = suggestions({key: key for key in keys}, names.split(), ())
    assert " ".join(str(found.get(key)) for key in keys) == expected


def test_a_column_that_is_a_time_by_its_type_is_guessed():
    assert suggestions({"timestamp": "timestamp"}, ["moment", "shown"], (), ["shown"]) == {"timestamp": "shown"}


def refusal(read) -> UserError | None:
    try:
        read()
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("name", REFUSED)
def test_hints_on_the_command_line(name, tmp_path):
    file = REFUSED[name](tmp_path)
    arguments = ["show", str(file)]

    def read() -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            tyro.extras.subcommand_cli_from_dict(commands.COMMANDS, args=commands.short_options(arguments))
        assert f"{USERS * LENGTH:,} lines" in out.getvalue() or name == "few items"

    assert follow(read, lambda words, _: arguments.extend(shlex.split(words)))


@pytest.mark.parametrize("name", REFUSED)
def test_hints_in_yaml(name, tmp_path):
    content: dict[str, Any] = {"data": {"source": {"kind": "csv", "path": str(REFUSED[name](tmp_path))}}}

    def read() -> None:
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
        with contextlib.redirect_stdout(io.StringIO()):
            commands.show(str(tmp_path / "x.yaml"))

    def apply(_: str, flow: str) -> None:
        content.update(merge(content, yaml.safe_load(flow)))

    assert follow(read, apply)


def test_clicks_without_ratings_leave_them_out_at_once(tmp_path):
    with pytest.raises(UserError, match="there is no column 'rating'") as caught:
        commands.show(str(_clicks(tmp_path)))
    assert "--data.source.rating None" in caught.value.hint
    assert "data: {source: {rating: null}" in caught.value.hint


def test_the_rows_order_is_an_order_by_option(tmp_path):
    """Where there are no times, `show` says how to take the rows in order, and that gives a next item."""
    file = write(tmp_path / "x.csv", ["user,item,rating,title", *(f"{e.user},{e.item},5,{e.title}" for e in events())])
    console = commands.Console(file=io.StringIO(), width=200)
    commands.show(str(file), own=commands.FileOptions(timestamp=None), console=console)
    assert "--data.source.order rows" in console.file.getvalue()
    commands.show(str(file), own=commands.FileOptions(timestamp=None, order="rows"), console=console)
    assert f"{USERS} test examples" in console.file.getvalue()
    assert ITEMS >= LENGTH


def test_one_user_and_two_are_too_few_for_a_split_by_users(tmp_path):
    for users in (1, 2):
        rows = [f"u{k % users},i{k},5,{1_600_000_000 + k},T{k}" for k in range(20)]
        file = write(tmp_path / "x.csv", ["user,item,rating,timestamp,title", *rows])
        with pytest.raises(UserError, match=f"too few users for a split by users: {users}, and 3 are needed"):
            commands.show(str(file), cut=commands.CutConfig(k_core=1, split="user"))
