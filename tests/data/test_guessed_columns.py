"""What a file's columns are taken for where they have other names, or none: hints, never taken unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from raypref.config.sources import CsvSource
from raypref.data.names import source_content
from raypref.data.sources import SOURCES
from raypref.data.sources.dialect import suggestion
from raypref.data.sources.files import find
from raypref.errors import UserError

SHOP = "customer_uuid sku stars when book_name price comment".split()
LISTENER = "listener episode_id episode_name score last_played".split()
TRACKS = "userName trackId trackName rating playedAt".split()
BOOKS = {"b1": "Red Hill", "b2": "A Gold Road", "b3": "The Sea"}


def rows(separator: str = "\t") -> str:
    """Users, ISBN-like items, stars, ISO times, the item's title, a price, and a comment that varies."""
    lines = []
    for n in range(30):
        item = f"97800{n % 3}735"
        title, said = list(BOOKS.values())[n % 3], f"so good {n}" if n % 2 else "not so good"
        lines.append(
            separator.join(
                [f"c{n % 5}-68c0", item, "4.5", f"2023-08-{n % 28 + 1:02}T23:55:59-05:00", title, "19.5", said]
            )
        )
    return "\n".join(lines) + "\n"


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as refused:
        SOURCES["csv"](CsvSource(path=path))
    return refused.value


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (SHOP, ["customer_uuid", "sku", "book_name", "stars", "when"]),
        (LISTENER, LISTENER),
        (TRACKS, TRACKS),
        (["item_name", "item_id", "user_name", "user_id", "at"], ["user_id", "item_id", "item_name", None, "at"]),
    ],
)  # fmt: skip
def test_a_column_is_found_by_the_words_of_its_name(names: list[str], expected: list[str | None]) -> None:
    found: list[str | None] = []
    for key in ("user", "item", "title", "rating", "timestamp"):
        found.append(suggestion(key, names, [name for name in found if name]))
    assert found == expected


def test_columns_without_names_are_told_by_their_values(tmp_path: Path) -> None:
    path = tmp_path / "shop.tsv"
    path.write_text(rows())
    hint = refusal(path).hint
    assert "--data.source.header user item rating timestamp title column0 column1 (" in hint
    named = CsvSource(path=path, header=("user", "item", "rating", "timestamp", "title", "column0", "column1"))
    assert sorted(SOURCES["csv"](named).items["title"].to_pylist()) == sorted(BOOKS.values())


@pytest.mark.parametrize("names", ["customer_uuid\tsku\tst", "\t".join(SHOP[:5])])
def test_a_torn_header_is_named_at_once(tmp_path: Path, names: str) -> None:
    path = tmp_path / "shop.tsv"
    path.write_text(f"{names}\n{rows()}")
    refused = refusal(path)
    assert refused.what.startswith(f"the header names {len(names.split())} columns, the lines have 7")
    assert refused.where == f"{path}, line 1"
    assert refused.hint == "write the names of all 7 columns into that line"


def test_a_file_that_is_nearly_called_so_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders.tsv").touch()
    with pytest.raises(UserError, match=r"there is no \S*ordrs.tsv; did you mean orders.tsv\?") as refused:
        find(tmp_path / "ordrs.tsv", "your interactions")
    assert refused.value.where == str(tmp_path / "ordrs.tsv")


def test_a_data_set_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "orders.tsv").write_text(rows())
    assert source_content(str(tmp_path / "orders.tsv")) == {"kind": "csv", "path": str(tmp_path / "orders.tsv")}
    with pytest.raises(UserError, match="no data set is called"):
        source_content(str(tmp_path / "other.tsv"))
