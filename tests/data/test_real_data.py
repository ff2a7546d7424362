"""The published files themselves, where they are: RAYPREF_DATA names the folder that holds them."""

from __future__ import annotations

import collections
import itertools
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from raypref.config.data import CutConfig
from raypref.data.audit import audit
from raypref.data.catalog import CATALOG
from raypref.data.examples import ExampleBuilder, examples_of
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.errors import UserError


def read(name: str) -> Log:
    root = os.environ.get("RAYPREF_DATA")
    source = CATALOG[name].source
    if not root or not (Path(root) / source.path).exists():
        pytest.skip(f"{name} is not here: set RAYPREF_DATA to the folder that holds {source.path}")
    return SOURCES[source.kind](source)


def test_movielens_100k_has_its_published_size():
    log = read("ml-100k")
    assert (log.users.num_rows, log.items.num_rows, log.interactions.num_rows) == (943, 1_682, 100_000)
    assert log.rejected.num_rows == 0


def test_movielens_100k_has_its_genres() -> None:
    found = [json.loads(text)["genres"] for text in read("ml-100k").items["metadata"].to_pylist()]
    counts = collections.Counter(itertools.chain(*found))
    assert counts.most_common(2) == [("Drama", 725), ("Comedy", 505)]  # flags counted in u.item
    assert len(counts) == 18


def test_recbole_has_the_same_interactions():
    ours, theirs = read("ml-100k"), read("recbole-ml-100k")
    assert ours.interactions.equals(theirs.interactions)
    assert ours.items["item_id"].equals(theirs.items["item_id"])
    assert ours.users.equals(theirs.users)


def test_hetrec_has_its_published_size_and_no_order():
    log = read("lastfm-hetrec2011")
    assert (log.users.num_rows, log.items.num_rows, log.interactions.num_rows) == (1_892, 17_632, 92_834)
    with pytest.raises(UserError, match="no times"):
        ExampleBuilder(log, CutConfig())


def test_sdpo_examples_are_all_read_and_leak(caplog):
    with caplog.at_level(logging.WARNING):
        log = read("lastfm-sdpo")
    assert "leaks its targets" in caplog.text
    examples = examples_of(log, CutConfig())
    assert examples.rows("train") == 47_872
    assert log.rejected.num_rows == 0
    guesses = {g.name: g for g in audit(examples.shards("train"), examples.shards("validation"), log.items["title"])}
    assert guesses["remembered position"].leaks
    assert guesses["remembered position"].share == pytest.approx(0.64, abs=0.03)


def test_our_lists_on_movielens_give_chance():
    log = read("ml-100k")
    builder = ExampleBuilder(log, CutConfig(split="user", held_out_targets="all"))
    guesses = {g.name: g for g in audit(builder.shards("train"), builder.shards("test"), log.items["title"])}
    for name in ("position", "remembered position"):
        assert guesses[name].share == pytest.approx(0.05, abs=0.012)
        assert not guesses[name].leaks
    assert np.isclose(guesses["position"].chance, 0.05)
