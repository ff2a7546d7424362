"""Ranking and metrics: hand-worked values, and ties that never favour the target."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from raypref.evaluation.decoding import first_line, match_contains, match_strict
from raypref.evaluation.metrics import (
    EXACT,
    GENERATED,
    avoided,
    beam_hit_at,
    beam_ndcg_at,
    means,
    ndcg_at,
    per_user,
    popularity_bias,
)
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


def table(
    ranks: list[int],
    targets: list[int],
    strict: list[int | None],
    contains: list[int | None],
    split: str = "test",
    **columns: list[Any],
) -> pa.Table:
    n = len(ranks)
    rows: dict[str, Any] = {
        "split": [split] * n, "example": range(n), "user": range(n), "history_length": [1] * n,
        "target_item": targets, "target": targets, "candidates": [[0, 1]] * n, "logps": [[0.0, -1.0]] * n,
        "rank": ranks, "logpop": [[2.0, 1.0]] * n, "history_logpop": [0.5] * n,
        "answer": [None if s is None else "x" for s in strict], "answered": strict, "answered_contains": contains,
        "beams": [None] * n,
    }  # fmt: skip
    return pa.table(rows | columns, schema=ROWS)


def scored(scores: list[list[float]], targets: list[int], split: str = "test", **columns: list[Any]) -> pa.Table:
    """Rows whose ranks follow from their scores."""
    none = [None] * len(targets)
    ranks = [rank(row, target) for row, target in zip(scores, targets)]
    wide: dict[str, Any] = {"candidates": [list(range(len(row))) for row in scores], "logps": scores}
    wide["logpop"] = [[float(i) for i in range(len(row))] for row in scores]
    return table(ranks, targets, none, none, split, **(wide | columns))


def test_metrics_by_hand() -> None:
    found = means(table([1, 2, 5, 6], [3, 0, 1, 2], [1, -1, 0, -1], [3, 0, -1, -1]))
    assert found == pytest.approx(
        {
            "exact_hr@1": 1 / 4,
            "exact_hr@5": 3 / 4,
            "exact_ndcg@5": (1 + 1 / math.log2(3) + 1 / math.log2(6)) / 4,
            "exact_mrr": (1 + 1 / 2 + 1 / 5 + 1 / 6) / 4,
            "exact_popularity_bias": 2.0 - 0.5,
            "generated_hr@1": 0,
            "valid_ratio": 2 / 4,
            "generated_hr@1_contains": 2 / 4,
            "valid_ratio_contains": 2 / 4,
            "generated_popularity_bias": ((1.0 - 0.5) + (2.0 - 0.5)) / 2,  # two answers name nothing
            "agreement": 1 / 4,
        }
    )
    assert list(found) == [*EXACT, *GENERATED]


def test_without_generation_there_are_exact_metrics_only() -> None:
    assert set(per_user(table([1, 2], [0, 1], [None, None], [None, None]))) == set(EXACT)


def test_beams_by_hand() -> None:
    beams = [[3, 0, -1, 1, 2], [-1, 3, 3, 0, 1], [0, 1, 2, -1, -1], [0, 1, 2, 4, 5]]
    rows = table([1] * 4, [3, 3, 3, 3], [None] * 4, [None] * 4, beams=beams)
    assert beam_hit_at(rows, 5).tolist() == [1, 1, 0, 0]
    assert beam_ndcg_at(rows, 5) == pytest.approx([1, 1 / math.log2(3), 0, 0])
    assert beam_hit_at(rows, 1).tolist() == [1, 0, 0, 0]
    few = rows.set_column(rows.column_names.index("beams"), "beams", pa.array([row[:2] for row in beams]))
    assert beam_hit_at(few, 5).tolist() == [1, 1, 0, 0]
    found = means(rows)
    assert (found["beam_hr@5"], found["beam_ndcg@5"]) == pytest.approx((0.5, (1 + 1 / math.log2(3)) / 4))


def test_probes_by_hand() -> None:
    """Of the disliked item's rows: it is beaten, it wins, it ties at the top, all tie, it is alone."""
    scores = [[-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.0], [-3.0, -3.0], [-1.0]]
    rows = scored(scores, [1, 1, 1, 0, 0], "avoidance")
    assert means(rows) == {"exact_avoidance": 1 / 5}
    assert per_user(rows)["exact_avoidance"].tolist() == [1, 0, 0, 0, 0]
    assert avoided(scored([[-1.0, math.nan]], [1])).tolist() == [0]
    said = table([1] * 3, [0] * 3, [0, 1, -1], [0, 1, -1], "avoidance")
    assert per_user(said)["generated_avoidance"].tolist() == [0, 1, 0]  # naming nothing avoids nothing
    for probe in ("adherence", "aversion"):
        assert means(scored(scores[:3], [0, 0, 0], probe)) == {f"exact_{probe}": 1 / 3}


def test_a_probe_s_metrics_are_not_asked_of_other_rows() -> None:
    whole = pa.concat_tables([scored([[0.0, -1.0]], [0]), scored([[0.0, -1.0]], [1], "avoidance")])
    found = per_user(whole)
    assert found["exact_hr@1"][0] == 1
    assert np.isnan(found["exact_hr@1"][1])
    assert found["exact_avoidance"][1] == 1
    assert np.isnan(found["exact_avoidance"][0])


def test_popularity_bias_by_hand() -> None:
    rows = scored(
        [[-1.0, -2.0, -3.0], [-2.0, -3.0, -1.0], [-1.0, -1.0, -2.0], [-1.0, -2.0, -3.0]],
        [0, 0, 0, 0],
        history_logpop=[0.5, 1.0, 0.0, None],
    )
    assert popularity_bias(rows)[:2].tolist() == [-0.5, 1.0]
    assert np.isnan(popularity_bias(rows)[2:]).all()  # a tie at the top recommends nothing; no history to compare with


def test_one_candidate_is_always_first_and_never_avoided() -> None:
    found = means(scored([[-1.0]], [0]))
    assert found["exact_hr@1"] == found["exact_ndcg@5"] == found["exact_mrr"] == 1
    assert means(scored([[-1.0]], [0], "avoidance")) == {"exact_avoidance": 0}


def test_all_alike_is_last() -> None:
    found = means(scored([[-1.0] * 20] * 3, [0, 7, 19]))
    assert (found["exact_hr@1"], found["exact_hr@5"], found["exact_ndcg@5"]) == (0, 0, 0)
    assert found["exact_mrr"] == pytest.approx(1 / 20)
    assert math.isnan(found["exact_popularity_bias"])


def test_where_no_answer_is_valid_nothing_is_right_or_recommended() -> None:
    found = means(table([1, 2], [0, 1], [-1, -1], [-1, -1], beams=[[-1] * 5, []]))
    zero = {"generated_hr@1", "generated_hr@1_contains", "valid_ratio", "valid_ratio_contains", "agreement"}
    assert {found[name] for name in (*zero, "beam_hr@5", "beam_ndcg@5")} == {0.0}
    assert math.isnan(found["generated_popularity_bias"])


ROUND = st.integers(-6, 0).map(float)


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 12)), elements=ROUND), st.data())
def test_against_scikit_learn(scores: np.ndarray, data: st.DataObject) -> None:
    """Ties are broken against the target before, as scikit-learn averages over them or favours it."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    target = [data.draw(st.integers(0, scores.shape[1] - 1)) for _ in scores]
    relevant = np.eye(scores.shape[1])[target]
    found = means(scored(scores.tolist(), target))
    broken = scores - 1e-3 * relevant
    assert found["exact_ndcg@5"] == pytest.approx(metrics.ndcg_score(relevant, broken, k=5))
    assert found["exact_mrr"] == pytest.approx(metrics.label_ranking_average_precision_score(relevant, broken))
    for k in (1, 5):
        if k < scores.shape[1] and scores.shape[1] > 2:
            right = metrics.top_k_accuracy_score(target, broken, k=k, labels=range(scores.shape[1]))
            assert found[f"exact_hr@{k}"] == pytest.approx(right)


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
    assert match_strict(answer, SHOWN) == strict
    assert match_contains(answer, SHOWN) == contains


@pytest.mark.parametrize(
    ("text", "line"), [("Heat\nAlien", "Heat"), ("\n \n Heat \n", "Heat"), ("", ""), ("\n\n", ""), ("Heat", "Heat")]
)
def test_the_first_line_answers(text: str, line: str) -> None:
    assert first_line(text) == line
