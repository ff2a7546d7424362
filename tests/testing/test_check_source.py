"""`check_source` passes for every reader of the package, and tells an author each promise that a log breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raypref.config.sources import GeneratedSource
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.testing import ContractError, check_source
from tests.support.raw_formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_it_passes_for_every_reader(name: str, tmp_path: Path) -> None:
    assert check_source(FORMATS[name](tmp_path)).interactions.num_rows > 0


def test_it_passes_for_the_generated_log_and_for_refused_lines(tmp_path: Path) -> None:
    check_source(GeneratedSource(users=40))
    source: Any = FORMATS["csv"](tmp_path)
    file = tmp_path / "mine.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, ",".join([""] * len(lines[0].split(",")))]) + "\n")
    assert check_source(source.model_copy(update={"max_bad_lines": 0.5})).rejected.num_rows == 1


def column(log: Log, table: str, name: str, change: Callable[[list[Any]], list[Any]]) -> Log:
    """The log with one column of a table changed."""
    old = getattr(log, table)
    i = old.schema.get_field_index(name)
    values = pa.array(change(old[name].to_pylist()), old.schema.field(i).type)
    return replace(log, **{table: old.set_column(i, old.schema.field(i), values)})


def swapped(log: Log) -> Log:
    order = [1, 0, *range(2, log.interactions.num_rows)]
    return replace(log, interactions=log.interactions.take(order))


PLANTED: dict[str, tuple[Callable[[Log], Log], str]] = {
    "a column's type": (
        lambda log: replace(log, users=log.users.cast(pa.schema([("user", pa.int64()), ("user_id", pa.string())]))),
        r"users has not the canonical schema.*'user'",
    ),
    "codes with a gap": (lambda log: column(log, "items", "item", lambda v: [*v[:-1], v[-1] + 1]), "not 0, 1, 2"),
    "an id twice": (lambda log: column(log, "users", "user_id", lambda v: [v[1], *v[1:]]), "raw ids of users"),
    "an item that is not there": (
        lambda log: column(log, "interactions", "item", lambda v: [len(v), *v[1:]]), "interactions name the item",
    ),
    "a title twice": (lambda log: column(log, "items", "title", lambda v: [v[1], *v[1:]]), "more than once"),
    "a title with a line break": (lambda log: column(log, "items", "title", lambda v: ["A\nB", *v[1:]]), "line breaks"),
    "a blank title": (lambda log: column(log, "items", "title", lambda v: ["", *v[1:]]), "titles are empty"),
    "metadata": (lambda log: column(log, "items", "metadata", lambda v: ["{", *v[1:]]), "no JSON"),
    "rows in another order": (swapped, "positions are not"),
    "users in another order": (
        lambda log: replace(log, interactions=log.interactions.take(pc.sort_indices(log.interactions["item"]))),
        "not sorted by user",
    ),
    "a time that falls": (
        lambda log: column(log, "interactions", "timestamp", lambda v: [v[0] + 10**9, *v[1:]]), "earlier times",
    ),
    "a rating of 9": (lambda log: column(log, "interactions", "rating", lambda v: [9.0, *v[1:]]), "not in 0.5 to 5"),
    "a line that is neither": (
        lambda log: replace(log, files=(replace(log.files[0], lines=log.files[0].lines + 1), *log.files[1:])),
        "are not its .* lines",
    ),
    "a refused line without a row": (
        lambda log: replace(
            log, files=(replace(log.files[0], rejected=1, lines=log.files[0].lines + 1), *log.files[1:])
        ),
        "1 lines are rejected, 0 stand in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_it_tells_what_is_wrong(fault: str, tmp_path: Path) -> None:
    change, message = PLANTED[fault]
    source = FORMATS["ml-dat"](tmp_path)
    with pytest.raises(ContractError, match=message):
        check_source(source, lambda config: change(SOURCES["movielens"](config)))


def test_a_log_that_differs_from_reading_to_reading(tmp_path: Path) -> None:
    source = FORMATS["ml-dat"](tmp_path)
    times = iter((0, 1))

    def read(config: Any) -> Log:
        at = next(times)
        return column(SOURCES["movielens"](config), "items", "title", lambda v: [f"Film {at}", *v[1:]])

    with pytest.raises(ContractError, match="read twice, items differs"):
        check_source(source, read)
