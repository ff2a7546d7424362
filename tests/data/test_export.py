"""What is exported can be read back: by our own readers, and in the shape that TRL documents."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pandas
import pyarrow as pa
import pytest

from raypref.config.data import CandidateConfig, CutConfig
from raypref.config.sources import CsvSource, RecBoleSource, SDPOJsonSource
from raypref.data.examples import ExampleBuilder, examples_of
from raypref.data.export import MISSING, export_recbole, export_sdpo, export_trl
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.raw_formats import ml_dat, recbole

CUT = CutConfig(k_core=1, target="next", candidates=CandidateConfig(train_future=3, train_random=3, eval_random=5))


@pytest.fixture
def log(tmp_path):
    config = ml_dat(tmp_path / "raw")
    return SOURCES[config.kind](config)


def test_recbole_round_trip(log, tmp_path):
    builder = ExampleBuilder(log, CUT)
    export_recbole(builder, log, tmp_path / "out", "x")
    again = SOURCES["recbole"](RecBoleSource(path=tmp_path / "out"))
    assert again.rejected.num_rows == 0

    def rows(log):
        table = log.interactions
        users, items = log.users["user_id"].to_pylist(), log.items["item_id"].to_pylist()
        titles = log.items["title"].to_pylist()
        columns = (table[c].to_pylist() for c in ("user", "item", "rating", "timestamp", "position"))
        return sorted((users[u], items[i], titles[i], r, t, p) for u, i, r, t, p in zip(*columns))

    assert rows(again) == rows(log)


def test_sdpo_round_trip(log, tmp_path):
    builder = ExampleBuilder(log, CUT)
    files = export_sdpo(builder, log, tmp_path / "out", "x")
    assert [file.name for file in files] == ["x-train.json", "x-val.json", "x-test.json"]
    again = SOURCES["sdpo-json"](SDPOJsonSource(path=tmp_path / "out"))
    assert again.rejected.num_rows == 0

    def told(log, examples, split):
        titles = log.items["title"].to_pylist()
        rows = [row for shard in examples.shards(split, shuffle=False) for row in shard.to_pylist()]
        return [
            ([titles[i] for i in row["history"]], [titles[i] for i in row["candidates"]], row["target"]) for row in rows
        ]

    for split in ("train", "validation", "test"):
        assert told(again, examples_of(again, CUT), split) == told(log, builder, split)


def test_trl_rows(log, tmp_path):
    builder = ExampleBuilder(log, CUT)

    def render(example, history, ratings, candidates):
        return f"{example}: {'; '.join(history)} ({len(ratings)}) -> {'; '.join(candidates)}"

    files = export_trl(builder, log, tmp_path, render, negatives=2)
    assert [file.name for file in files] == ["train.jsonl", "validation.jsonl", "test.jsonl"]
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(rows) == 2 * builder.rows("train")
    for row in rows:
        assert set(row) == {"prompt", "chosen", "rejected"}
        listed = row["prompt"].split(" -> ")[1].split("; ")
        assert row["chosen"] in listed
        assert row["rejected"] in listed
        assert row["chosen"] != row["rejected"]


def test_titles_that_sdpo_cannot_hold_are_refused(tmp_path):
    config = recbole(tmp_path / "raw")
    item = tmp_path / "raw" / "x.item"
    item.write_text(item.read_text().replace("Item number 7", "Code :: Name"))
    log = SOURCES["recbole"](config)
    with pytest.raises(UserError, match="'Code :: Name'"):
        export_sdpo(ExampleBuilder(log, CUT), log, tmp_path, "x")


QUOTED = ['"Weird Al"', '"', '""', '"open', 'a "b" c', '5" disk', '"a" b', "Known", "'s", '"x""y"']


def test_recbole_files_are_read_back_by_pandas_and_by_us_whatever_the_quotes(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["user", "item", "rating", "timestamp", "title"])
        for user in range(12):
            for n, title in enumerate(QUOTED):
                table.writerow([f'"u{user}"', f'"i"{n}', 5, 1_600_000_000 + n, title])
    log = SOURCES["csv"](CsvSource(path=tmp_path / "x.csv"))
    assert log.rejected.num_rows == 0
    inter, item = export_recbole(Everything(log), log, tmp_path / "out", "x")
    frame = pandas.read_csv(item, delimiter="\t", dtype=str)  # as RecBole reads it
    titles = dict(zip(log.items["item_id"].to_pylist(), log.items["title"].to_pylist()))
    assert dict(zip(frame["item_id:token"], frame["title:token_seq"])) == titles
    assert sorted(titles.values()) == sorted(QUOTED)
    frame = pandas.read_csv(inter, delimiter="\t", dtype={"user_id:token": str, "item_id:token": str})
    assert len(frame) == 120
    assert set(frame["user_id:token"]) == set(log.users["user_id"].to_pylist())
    assert set(frame["item_id:token"]) == set(titles)
    again = SOURCES["recbole"](RecBoleSource(path=tmp_path / "out"))
    assert again.rejected.num_rows == 0
    assert again.items.select(["item_id", "title"]).equals(log.items.select(["item_id", "title"]))
    assert again.users.equals(log.users)


def test_an_id_that_pandas_takes_for_no_value_is_refused(log, tmp_path):
    ids = log.items["item_id"].to_pylist()
    items = log.items.set_column(1, log.items.schema.field(1), pa.array(["NA", *ids[1:]]))
    renamed = dataclasses.replace(log, items=items)
    with pytest.raises(UserError, match="the item id 'NA' would be read as a missing value"):
        export_recbole(Everything(renamed), renamed, tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
    words = [f'"{word}"' for word in sorted(MISSING - {""})]
    assert pandas.read_csv(io.StringIO("\n".join(["a", *words])), delimiter="\t")["a"].isna().all()


class Everything:
    """A log as examples that filter nothing."""

    def __init__(self, log):
        self.interactions = log.interactions
