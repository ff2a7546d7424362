"""Every reader, on a sample in its true format."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from raypref.config.sources import CsvSource
from raypref.data.schema import EXAMPLES, INTERACTIONS, Log, PublishedLog
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.raw_formats import (
    FORMATS,
    ITEMS,
    LENGTH,
    USERS,
    amazon_2023,
    csv_file,
    events,
    lastfm_1k,
    ml_dat,
    steam,
    title,
)

LOGS = [name for name in FORMATS if name not in ("sdpo-json", "llara")]


def read(name: str, folder: Path) -> Log:
    source = FORMATS[name](folder)
    return SOURCES[source.kind](source)


@pytest.mark.parametrize("name", LOGS)
def test_reads_every_interaction_in_order(name, tmp_path):
    log = read(name, tmp_path)
    assert log.interactions.schema == INTERACTIONS
    assert log.interactions.num_rows == USERS * LENGTH
    assert log.users.num_rows == USERS
    assert log.rejected.num_rows == 0
    assert all(account.lines == account.accepted for account in log.files)
    user, position = (log.interactions[c].to_numpy() for c in ("user", "position"))
    assert position.tolist() == list(range(LENGTH)) * USERS
    assert (np.diff(user) >= 0).all()
    titles = log.items["title"].to_pylist()
    assert len(set(titles)) == len(titles)
    if log.has_times:
        time = log.interactions["timestamp"].to_numpy().reshape(USERS, LENGTH)
        assert (np.diff(time, axis=1) >= 0).all()


@pytest.mark.parametrize("name", LOGS)
def test_keeps_ratings_times_and_titles(name, tmp_path):
    log = read(name, tmp_path)
    day = 86_400 if name == "steam" else 1
    wanted = sorted((t // day * day, r) for _, _, r, t in events())
    rating = log.interactions["rating"].to_pylist()
    if name in ("steam", "lastfm-1k", "hetrec"):
        assert rating == [None] * len(rating)
        scale = {"steam": 1.5, "lastfm-1k": 1, "hetrec": 100}[name]
        rating = [count / scale for count in log.interactions["count"].to_pylist()]
    if name == "hetrec":
        assert not log.has_times
        assert sorted(rating) == sorted(r for _, r in wanted)
    else:
        found = sorted(zip(log.interactions["timestamp"].to_pylist(), (r or 0 for r in rating)))
        if name == "ml-csv":  # half stars
            found = [(t, np.ceil(r)) for t, r in found]
        if name == "goodreads":  # a rating of 0 is none
            assert sum(r == 0 for _, r in found) == LENGTH
            wanted = [(t, 0 if u == 1 else r) for u, _, r, t in events()]
            found, wanted = sorted(found), sorted(wanted)
        assert found == wanted
    assert any("Léon & Mathilda" in t for t in log.items["title"].to_pylist())


def test_titles_that_items_share_are_told_apart(tmp_path):
    titles = read("recbole", tmp_path).items["title"].to_pylist()
    assert {"Twins [1]", "Twins [2]"} <= set(titles)


def test_movielens_titles_lose_year_and_turn_article(tmp_path):
    config = ml_dat(tmp_path)
    titles = SOURCES["movielens"](config).items["title"].to_pylist()
    assert {"The Me, Myself", "Amélie", "Tampopo: Ramen", "The Twins (1901)", "The Twins (1902)"} <= set(titles)


def test_movielens_csv_reads_quotes_within_quotes(tmp_path):
    assert 'The "Great" One' in read("ml-csv", tmp_path).items["title"].to_pylist()


def test_amazon_2023_five_core_csv(tmp_path):
    config = amazon_2023(tmp_path)
    (tmp_path / "Pet_Supplies.jsonl.gz").unlink()
    lines = ["user_id,parent_asin,rating,timestamp", *(f"AE{u},B{i},{r}.0,{t}000" for u, i, r, t in events())]
    with gzip.open(tmp_path / "Pet_Supplies.csv.gz", "wt") as out:
        out.write("\n".join(lines))
    log = SOURCES["amazon-2023"](config)
    assert sorted(log.interactions["timestamp"].to_pylist()) == sorted(t for *_, t in events())


def test_lastfm_1k_by_track(tmp_path):
    config = lastfm_1k(tmp_path).model_copy(update={"item": "track"})
    log = SOURCES["lastfm-1k"](config)
    assert log.interactions.num_rows == sum(r for _, _, r, _ in events())
    assert f'{title(5)} 5 - Song "0"' in log.items["title"].to_pylist()


def test_steam_reads_literals_and_never_code(tmp_path):
    config = steam(tmp_path)
    file = tmp_path / "steam_reviews.json.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    marker = tmp_path / "ran"
    lines.append(f"{{u'username': open({str(marker)!r}, 'w'), u'product_id': u'1'}}")
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    log = SOURCES["steam"](config)
    assert log.rejected["reason"].to_pylist() == ["not a Python dict"]
    assert not marker.exists()


def test_own_columns_dates_with_offsets_and_missing_column(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("who\twhat\tname\twhen\n1\t7\tA\t2020-01-01T02:00:00+02:00\n2\t8\tB\t2020-01-01 00:00:00.25\n")
    names = {"user": "who", "item": "what", "title": "name", "rating": None}
    log = SOURCES["csv"](CsvSource(path=file, timestamp="when", **names))
    assert set(log.interactions["timestamp"].to_pylist()) == {1_577_836_800}
    with pytest.raises(UserError, match="did you mean 'when'"):
        SOURCES["csv"](CsvSource(path=file, timestamp="wen", **names))


def test_bom_and_windows_line_ends(tmp_path):
    config = csv_file(tmp_path)
    text = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert SOURCES["csv"](config).interactions.num_rows == USERS * LENGTH


@pytest.mark.parametrize("name", ["sdpo-json", "llara"])
def test_published_examples_keep_histories_and_targets(name, tmp_path):
    log = read(name, tmp_path)
    assert isinstance(log, PublishedLog)
    assert {split: table.num_rows for split, table in log.examples.items()} == {
        "train": 56,
        "validation": 14,
        "test": 14,
    }
    assert all(table.schema == EXAMPLES for table in log.examples.values())
    assert log.users.num_rows == USERS  # the chains are the users
    assert log.interactions.num_rows == USERS * LENGTH
    assert log.items.num_rows == ITEMS
    row = log.examples["train"].to_pylist()[-1]
    titles = log.items["title"].to_pylist()
    assert titles[row["candidates"][row["target"]]].endswith(f" {row_of(8)[-1]}")
    assert [titles[i].split()[-1] for i in row["history"][-5:]] == [str(i) for i in row_of(8)[-6:-1]]
    assert row["position"] == LENGTH - 1


def row_of(user: int) -> list[int]:
    from tests.support.raw_formats import sequences

    return sequences()[user]
