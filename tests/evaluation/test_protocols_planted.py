"""An oracle and a blind model on every protocol and probe: 1.0 for the one, chance for the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import Tensor

from raypref.config import recommender as configs
from raypref.config.data import DataConfig
from raypref.config.sources import GeneratedSource
from raypref.data.examples import ExampleBuilder
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.data.splitting import LEAST, PROBES, SPLITS
from raypref.evaluation.metrics import means
from raypref.evaluation.rows import match_answers, rank_by_recommender, rows_of
from raypref.recommenders import Recommender
from raypref.recommenders.floors import Random

PROTOCOLS = [(split, target) for split in ("leave-last-two", "user", "time") for target in ("recpo", "next")]
SETS = (*SPLITS[1:], *PROBES)
CANDIDATES = 20
CONFIDENCE = 0.9999  # some 40 intervals are looked at


class Oracle(Recommender):
    """Is told the answers of the list that it is asked next."""

    def __init__(self, answers: Sequence[int]) -> None:
        super().__init__(configs.Random(), 0)
        self.answers = iter(answers)

    def score(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
        wanted = np.array([next(self.answers) for _ in candidates])
        return torch.from_numpy((candidates == wanted[:, None]).astype(np.float32))


@pytest.fixture(scope="module")
def log() -> Log:
    return SOURCES["generated"](GeneratedSource(users=400, items=120))


def examples_of(log: Log, split: str, target: str) -> dict[str, pa.Table]:
    config = DataConfig(k_core=1, split=split, target=target, held_out_targets="all", cold_users=0.15, cold_items=0.1)
    builder = ExampleBuilder(log, config)
    found = {name: pa.concat_tables(builder.shards(name)) for name in SETS if builder.rows(name)}
    assert set(found) == set(SETS)  # none is skipped for want of examples
    return found


def right_of(name: str, table: pa.Table) -> list[int]:
    """The item that should be named: of avoidance, any but the disliked one."""
    rows = table.to_pylist()
    if name != "avoidance":
        return [row["candidates"][row["target"]] for row in rows]
    return [row["candidates"][(row["target"] + 1) % CANDIDATES] for row in rows]


@pytest.mark.parametrize(("split", "target"), PROTOCOLS)
def test_an_oracle_scores_one_on_every_set(log: Log, split: str, target: str) -> None:
    for name, table in examples_of(log, split, target).items():
        right = right_of(name, table)
        oracle = Oracle(right)
        if name in LEAST:  # a recommender is asked what fits best, so it gives the least fitting item the lowest score
            oracle.score = lambda h, c, oracle=oracle: -Oracle.score(oracle, h, c)  # type: ignore[method-assign, misc]
        rows = pa.concat_tables(rank_by_recommender(oracle, [table], name, 64, np.zeros(120)))
        found = means(rows)
        assert {v for metric, v in found.items() if "popularity" not in metric} == {1.0}, (name, found)
        shown = table["candidates"].to_pylist()
        titles = [f"item {code:03d}" for code in range(120)]  # none contains another
        said = match_answers([titles[item] for item in right], [[titles[i] for i in row] for row in shown])
        scores = -np.ones((table.num_rows, CANDIDATES))
        spoken = means(rows_of(table, name, scores, np.zeros(120), **said))
        assert {v for metric, v in spoken.items() if metric.startswith(("generated_hr", "valid"))} <= {1.0}, name
        assert all(v == 1.0 for metric, v in spoken.items() if metric == f"generated_{name}"), (name, spoken)


@pytest.mark.parametrize(("split", "target"), PROTOCOLS)
def test_a_blind_model_scores_chance_on_every_set(log: Log, split: str, target: str) -> None:
    """Whatever order the lists are in, and whoever their targets are."""
    blind = Random(configs.Random(seed=1), 120)
    checked = 0
    for name, table in examples_of(log, split, target).items():
        found = means(pa.concat_tables(rank_by_recommender(blind, [table], name, 64, np.zeros(120))))
        n = table.num_rows
        chances = {"exact_hr@1": 1 / CANDIDATES, "exact_hr@5": 5 / CANDIDATES, "exact_avoidance": 1 - 1 / CANDIDATES}
        chances |= {"exact_adherence": 1 / CANDIDATES, "exact_aversion": 1 / CANDIDATES}
        for metric, chance in chances.items():
            if metric in found:
                low, high = stats.binom.interval(CONFIDENCE, n, chance)
                assert low <= round(found[metric] * n) <= high, (name, metric, found[metric], chance)
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_place_in_the_list_is_no_answer(log: Log, place: int) -> None:
    """Naming the same place of every list is chance too: targets lie anywhere."""
    for name, table in examples_of(log, "leave-last-two", "next").items():
        hits = int((table["target"].to_numpy() == place).sum())
        low, high = stats.binom.interval(CONFIDENCE, table.num_rows, 1 / CANDIDATES)
        assert low <= hits <= high, (name, place)
