"""Groups by history length, reward margins, hard errors, and why generation differs from exact ranking."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from test_metrics import scored, table

from raypref.evaluation.metrics import hit_at
from raypref.evaluation.studies import (
    by_history_length,
    generation_gap,
    high_expert_error_share,
    margin_distribution,
    reward_gaps,
    reward_margins,
)


def test_history_lengths_by_hand() -> None:
    rows = table([1] * 6, [0] * 6, [None] * 6, [None] * 6, history_length=[1, 5, 6, 10, 11, 99])
    found = by_history_length(rows, np.array([1.0, 0.0, 1.0, 1.0, math.nan, 0.0]))
    assert found.table.to_dict("list") == {"group": ["<= 5", "6-10", "> 50"], "users": [2, 2, 1], "mean": [0.5, 1, 0]}
    assert found.variance == pytest.approx(np.var([0.5, 1, 0]))
    assert math.isnan(by_history_length(rows, np.full(6, math.nan)).variance)
    assert math.isnan(by_history_length(rows.slice(0, 2), np.ones(2)).variance)


def test_history_lengths_against_pandas() -> None:
    rng = np.random.default_rng(0)
    lengths, values = rng.integers(0, 80, 500), rng.random(500)
    rows = table([1] * 500, [0] * 500, [None] * 500, [None] * 500, history_length=lengths.tolist())
    cut = pd.cut(lengths, [-1, 5, 10, 20, 50, 10**6])
    means = pd.Series(values).groupby(cut, observed=True).mean()
    found = by_history_length(rows, values)
    np.testing.assert_allclose(found.table["mean"], means)
    assert found.variance == pytest.approx(stats.describe(means, ddof=0).variance)


def test_margins_by_hand() -> None:
    """Rewards 1, 0, -2 of the target and two others: 1 - (0 - 2)/2 = 2."""
    policy, reference = scored([[-1.0, -4.0, -5.0]], [0]), scored([[-2.0, -4.0, -3.0]], [0])
    assert reward_margins(policy, reference).tolist() == [2.0]
    assert reward_margins(policy).tolist() == [3.5]
    assert reward_margins(policy, policy).tolist() == [0.0]
    assert reward_gaps(policy, reference).tolist() == [1.0, 3.0]  # against each of the two
    assert reward_gaps(policy).tolist() == [3.0, 4.0]
    assert np.isnan(reward_margins(scored([[-1.0]], [0]))).all()
    assert reward_gaps(scored([[-1.0]], [0])).size == reward_gaps(policy.slice(0, 0)).size == 0
    for function in (reward_margins, reward_gaps):
        with pytest.raises(ValueError, match="different examples"):
            function(policy, scored([[-1.0, -2.0]], [0]))


def test_margin_distribution_against_scipy() -> None:
    margins = np.random.default_rng(0).normal(1, 2, 400)
    found, described = margin_distribution(np.append(margins, math.nan)), stats.describe(margins, ddof=0)
    assert found["mean"] == pytest.approx(described.mean)
    assert found["std"] == pytest.approx(math.sqrt(described.variance))
    assert found["share_positive"] == pytest.approx(1 - stats.percentileofscore(margins, 0) / 100)
    assert found["q0.25"] == pytest.approx(stats.scoreatpercentile(margins, 25))
    assert all(math.isnan(value) for value in margin_distribution(np.array([math.nan])).values())


def test_hard_errors_by_hand() -> None:
    """Of 6 candidates the expert's best negative is the high one (a fifth of 5): picked, not picked, no error, tied."""
    expert = scored([[9.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 4, [0] * 4)
    chosen = [[1.0, 2.0, 0, 0, 0, 0], [1.0, 0, 2.0, 0, 0, 0], [2.0, 1.0, 0, 0, 0, 0], [0, 2.0, 2.0, 0, 0, 0]]
    assert high_expert_error_share(scored(chosen, [0] * 4), expert) == 1 / 2
    assert high_expert_error_share(scored(chosen, [0] * 4), expert, top=0.4) == 1
    assert math.isnan(high_expert_error_share(scored(chosen[2:3], [0]), expert.slice(0, 1)))
    tied = scored([[9.0, 5.0, 5.0, 1.0, 1.0, 1.0]] * 2, [0] * 2)
    assert high_expert_error_share(scored(chosen[:2], [0] * 2), tied) == 1  # both of the expert's best count as high
    assert math.isnan(high_expert_error_share(scored([[1.0]], [0]), scored([[1.0]], [0])))  # one candidate: no error


def test_hard_errors_of_a_blind_model_are_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    model, expert = (scored(rng.normal(size=(3000, 21)).tolist(), [0] * 3000) for _ in range(2))
    for top in (0.1, 0.2, 0.5):
        share = high_expert_error_share(model, expert, top)
        assert abs(share - top) < 4 * math.sqrt(top * (1 - top) / 2800)


def test_the_gap_between_generation_and_ranking_adds_up() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(300, 5))
    answered = np.where(rng.random(300) < 0.7, scores.argmax(axis=1), rng.integers(-1, 5, 300))
    target = rng.integers(0, 5, 300)
    rows = scored(scores.tolist(), target.tolist(), answered=answered.tolist())
    found = generation_gap(rows)
    assert found["difference"] == pytest.approx((answered == target).mean() - hit_at(rows, 1).mean())
    assert found["difference"] == pytest.approx(found["gained"] - found["lost"])
    assert found["gained"] + found["lost"] <= found["invalid"] + found["other"]
    assert found["invalid"] == pytest.approx((answered == -1).mean())
    same = scored(scores.tolist(), target.tolist(), answered=scores.argmax(axis=1).tolist())
    assert set(generation_gap(same).values()) == {0.0}


def test_groups_of_no_rows() -> None:
    empty = scored([[0.0, 1.0]], [0]).slice(0, 0)
    assert by_history_length(empty, np.zeros(0)).table.empty
    assert isinstance(empty, pa.Table)
