"""Ready-made examples: kept as they are, warned of where they leak, completed where they lack candidates."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from raypref.config.data import CandidateConfig, CutConfig
from raypref.data.audit import audit, leak_warning
from raypref.data.examples import ExampleBuilder, PublishedExamples, examples_of
from raypref.data.schema import EXAMPLES
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.raw_formats import llara, sdpo_json, sequences


def test_published_lists_stay_as_they_are(tmp_path):
    log = SOURCES["sdpo-json"](sdpo_json(tmp_path))
    examples = examples_of(log, CutConfig())
    assert isinstance(examples, PublishedExamples)
    titles = log.items["title"].to_pylist()
    for end, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        published = json.loads((tmp_path / f"x-{end}.json").read_text())
        ours = [row for shard in examples.shards(split, shuffle=False) for row in shard.to_pylist()]
        assert len(ours) == examples.rows(split) == len(published)
        for row, raw in zip(ours, published):
            assert [titles[i] for i in row["candidates"]] == raw["itemList"]
            assert titles[row["candidates"][row["target"]]] == raw["trueSelection"]
            assert "::".join(titles[i] for i in row["history"]) == raw["historyList"]
    shuffled = [row["user"] for shard in examples.shards("train") for row in shard.to_pylist()]
    assert sorted(shuffled) != shuffled
    assert examples.train_counts.sum() == 8 * 10


def test_leaking_lists_are_warned_of(tmp_path, caplog):
    """Places made from the target, as in S-DPO's published files."""
    rng = np.random.default_rng(0)
    items = [f"artist {i}" for i in range(40)]
    for end, n in (("train", 600), ("val", 200)):
        rows = []
        for _ in range(n):
            target, *others, a, b, c = rng.permutation(40)[:13].tolist()
            others.insert(target % 10, target)
            rows.append({"historyList": "::".join(items[i] for i in (a, b, c)), "itemList": [items[i] for i in others]})
            rows[-1]["trueSelection"] = items[target]
        (tmp_path / f"a-{end}.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING):
        log = SOURCES["sdpo-json"](sdpo_json(tmp_path / "honest").model_copy(update={"path": tmp_path}))
    assert "leaks its targets" in caplog.text
    assert examples_of(log, CutConfig()).rows("test") == 0
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        redrawn = SOURCES["sdpo-json"](
            sdpo_json(tmp_path / "honest").model_copy(update={"path": tmp_path, "candidates": "drawn"})
        )
    assert "leaks" not in caplog.text
    assert redrawn.items["title"].equals(log.items["title"])
    drawn = examples_of(redrawn, CutConfig())
    tables = {split: list(drawn.shards(split, shuffle=False)) for split in ("train", "validation")}
    assert leak_warning(audit(tables["train"], tables["validation"], redrawn.items["title"]), "a") is None
    for row, published in zip(tables["validation"][0].to_pylist(), log.examples["validation"].to_pylist()):
        assert len(set(row["candidates"])) == 20
        assert row["candidates"][row["target"]] == published["candidates"][published["target"]]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        SOURCES["sdpo-json"](sdpo_json(tmp_path / "honest"))
    assert "leaks" not in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"itemList": ["a", "a", "b"]}, "itemList holds a title twice"),
        ({"itemList": ["a"]}, "itemList holds fewer than two titles"),
        ({"itemList": "a::b"}, "itemList is not a list of titles"),
        ({"trueSelection": "z"}, "trueSelection is not in itemList"),
        ({"trueSelection": None}, "trueSelection is no title"),
        ({"historyList": ""}, "historyList is not a list of titles"),
        ({"historyList": []}, "historyList is empty"),
    ],
)
def test_broken_examples_have_a_reason(tmp_path, change, reason):
    config = sdpo_json(tmp_path).model_copy(update={"max_bad_lines": 0.1})
    file = tmp_path / "x-val.json"
    rows = json.loads(file.read_text())
    rows[2] |= change
    file.write_text(json.dumps(rows))
    log = SOURCES["sdpo-json"](config)
    assert [(r["file"], r["line"], r["reason"]) for r in log.rejected.to_pylist()] == [("x-val.json", 3, reason)]
    file.write_text(json.dumps(rows)[:-9])
    with pytest.raises(UserError, match="not valid JSON"):
        SOURCES["sdpo-json"](config)


def test_llara_lists_are_drawn_and_seeded_without_the_target(tmp_path):
    log = SOURCES["llara"](llara(tmp_path))
    config = CutConfig(candidates=CandidateConfig(eval_random=9))
    examples = examples_of(log, config)
    by_user = {f"chain {u - 1}": set(items) for u, items in sequences().items()}
    ids = log.users["user_id"].to_pylist()
    numbers = [int(i) + 1 for i in log.items["item_id"].to_pylist()]
    places = []
    for split in ("train", "validation", "test"):
        for shard in examples.shards(split):
            assert shard.schema == EXAMPLES
            for row in shard.to_pylist():
                met = by_user[ids[row["user"]]]
                listed = [numbers[i] for i in row["candidates"]]
                assert len(set(listed)) == 10
                assert [i for i in listed if i in met] == [listed[row["target"]]]
                assert [x for x in row["latency"] if x == x] == [1.0]
                places.append(row["target"])
    assert len(set(places)) == 10


def test_published_data_refuse_to_be_cut_as_a_log(tmp_path):
    log = SOURCES["sdpo-json"](sdpo_json(tmp_path))
    with pytest.raises(UserError, match="no times"):
        ExampleBuilder(log, CutConfig(k_core=1))
