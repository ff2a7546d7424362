"""Ranking and metrics: hand-worked values, and ties that never favour the target."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from raypref.evaluation.decoding import first_line, matched_contains, matched_strict
from raypref.evaluation.metrics import EXACT, GENERATED, means, ndcg_at, per_user
from raypref.evaluation.ranking import rank_of_target
from raypref.evaluation.rows import ROWS


def rank(scores: list[float], target: int) -> int:
    return int(rank_of_target(np.array([scores]), np.array([target]))[0])


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ([-1.0, -2.0, -3.0], 0, 1),
        ([-1.0, -2.0, -3.0], 2, 3),
        ([-2.0, -2.0, -3.0], 0, 2),
        ([-2.0, -2.0, -2.0], 1, 3),
        ([math.nan, -1.0, -2.0], 0, 3),
        ([-1.0, math.nan, -2.0], 0, 2),
        ([-math.inf, -math.inf], 0, 2),
    ],
)
def test_ranks_by_hand(scores: list[float], target: int, expected: int) -> None:
    assert rank(scores, target) == expected


FEW = st.sampled_from([-3.0, -2.0, -2.0, -1.0, math.nan, -math.inf])  # few values, so that ties are common


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=FEW), st.data())
def test_no_tie_favours_the_target(scores: np.ndarray, data: st.DataObject) -> None:
    target = np.array([data.draw(st.integers(0, scores.shape[1] - 1)) for _ in scores])
    for row, own, found in zip(scores.tolist(), target.tolist(), rank_of_target(scores, target).tolist()):
        beaten = sum(other < row[own] for other in row)  # surely worse than the target; all else stands before it
        assert found == len(row) - beaten
        order = np.random.default_rng(0).permutation(len(row))
        assert rank([row[i] for i in order], int(np.argsort(order)[own])) == found  # wherever it stands in the prompt


def table(ranks: list[int], targets: list[int], strict: list[int | None], contains: list[int | None]) -> pa.Table:
    n = len(ranks)
    return pa.table(
        {
            "split": ["test"] * n, "example": range(n), "user": range(n), "history_length": [1] * n,
            "target_item": targets, "target": targets, "candidates": [[0, 1]] * n, "logps": [[0.0, 0.0]] * n,
            "rank": ranks, "answer": [None if s is None else "x" for s in strict],
            "answered": strict, "answered_contains": contains,
        },
        schema=ROWS,
    )  # fmt: skip


def test_metrics_by_hand() -> None:
    found = means(table([1, 2, 5, 6], [3, 0, 1, 2], [3, -1, 0, -1], [3, 0, -1, -1]))
    assert found == pytest.approx(
        {
            "exact_hr@1": 1 / 4,
            "exact_hr@5": 3 / 4,
            "exact_ndcg@5": (1 + 1 / math.log2(3) + 1 / math.log2(6)) / 4,
            "exact_mrr": (1 + 1 / 2 + 1 / 5 + 1 / 6) / 4,
            "generated_hr@1": 1 / 4,
            "valid_ratio": 2 / 4,
            "generated_hr@1_contains": 2 / 4,
            "valid_ratio_contains": 2 / 4,
        }
    )
    assert list(found) == [*EXACT, *GENERATED]


def test_without_generation_there_are_exact_metrics_only() -> None:
    assert set(per_user(table([1, 2], [0, 1], [None, None], [None, None]))) == set(EXACT)


@given(st.lists(st.integers(1, 20), min_size=1))
def test_metrics_are_ordered_as_they_must_be(ranks: list[int]) -> None:
    n = len(ranks)
    found = per_user(table(ranks, [0] * n, [0] * n, [0] * n))
    assert (found["exact_hr@1"] <= found["exact_ndcg@5"]).all()
    assert (found["exact_ndcg@5"] <= found["exact_hr@5"]).all()
    assert (found["exact_hr@1"] <= found["exact_mrr"]).all()
    assert (ndcg_at(table(ranks, [0] * n, [0] * n, [0] * n), 1) == found["exact_hr@1"]).all()


SHOWN = ["The Matrix", "Matrix", "Heat (1995)", " Alien "]


@pytest.mark.parametrize(
    ("answer", "strict", "contains"),
    [
        ("Heat (1995)", 2, 2),
        ("heat (1995)", -1, 2),  # letter case counts by the strict rule only
        ("Heat (1995).", -1, 2),
        ("I say Heat (1995)", -1, 2),
        ("Alien", 3, 3),  # spaces around a title never count
        ("Matrix", 1, 1),
        ("The Matrix", 0, -1),  # contains two candidates: no answer by the contains rule
        ("Heat", -1, -1),
        ("Heat (1995) or Alien", -1, -1),
        ("", -1, -1),
    ],
)
def test_the_two_rules_by_hand(answer: str, strict: int, contains: int) -> None:
    assert matched_strict(answer, SHOWN) == strict
    assert matched_contains(answer, SHOWN) == contains


@pytest.mark.parametrize(
    ("text", "line"), [("Heat\nAlien", "Heat"), ("\n \n Heat \n", "Heat"), ("", ""), ("\n\n", ""), ("Heat", "Heat")]
)
def test_the_first_line_answers(text: str, line: str) -> None:
    assert first_line(text) == line
