"""Intervals, tests, effect sizes: worked by hand, against scipy, and on planted data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raypref.results.statistics import (
    bootstrap_means,
    cohens_d,
    holm,
    mcnemar,
    paired_bootstrap,
    seed_interval,
    user_interval,
    user_intervals,
    wilcoxon,
)


def test_seed_interval_by_hand():
    # s = 0.1, t_2(0.975) = 4.302653, half = 4.302653 * 0.1 / sqrt(3)
    found = seed_interval([0.4, 0.5, 0.6])
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((0.5, 0.251586, 0.748414, 3), abs=1e-6)


def test_seed_interval_is_scipys():
    values = [0.31, 0.27, 0.35, 0.30]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = seed_interval(values, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval_and_says_so():
    found = seed_interval([0.4])
    assert found.mean == 0.4
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert "one seed" in found.note
    assert seed_interval([]).n == 0
    assert seed_interval([0.4, math.nan]).n == 1


def test_user_interval_agrees_with_scipys_bootstrap():
    rng = np.random.default_rng(0)
    values = (rng.random(300) < 0.3).astype(float)
    found = user_interval(values, resamples=8000)
    other = stats.bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=rng).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.006)


def test_user_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = user_interval((rng.random(120) < 0.4).astype(float), resamples=500)
        covered += found.low <= 0.4 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_users_examples_are_drawn_together():
    values = (np.random.default_rng(2).random(80) < 0.5).astype(float)
    once = user_interval(values)
    twice = user_interval(np.repeat(values, 2), np.repeat(np.arange(80), 2))
    blind = user_interval(np.repeat(values, 2))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert blind.high - blind.low < 0.8 * (twice.high - twice.low)


def test_user_interval_edges():
    assert math.isnan(user_interval([0.5]).low)
    assert user_interval([]).n == 0
    alike = user_interval(np.zeros(20))
    assert (alike.low, alike.high) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    ones = user_interval(np.ones(20))
    assert (ones.low, ones.high) == pytest.approx((0.025 ** (1 / 20), 1))
    assert user_interval(np.full(20, 0.5)).high == 0.5


def test_many_rows_get_what_each_would_alone():
    values = np.random.default_rng(3).random((3, 40))
    values[1, 5] = np.nan
    together = user_intervals(values)
    assert [i.low for i in together] == pytest.approx([user_interval(row).low for row in values])
    assert together[1].n == 39


def test_bootstrap_is_seeded_and_chunked_alike(monkeypatch):
    values = np.random.default_rng(4).random(50)
    whole = bootstrap_means(values, resamples=100, seed=7)
    assert np.array_equal(whole, bootstrap_means(values, resamples=100, seed=7))
    assert not np.array_equal(whole, bootstrap_means(values, resamples=100, seed=8))
    monkeypatch.setattr("raypref.results.statistics._CHUNK", 500)
    assert bootstrap_means(values, resamples=100, seed=7) == pytest.approx(whole)


def test_paired_bootstrap():
    rng = np.random.default_rng(5)
    first, second = rng.random(200), rng.random(200)
    found, t = paired_bootstrap(first, second), stats.ttest_rel(first, second)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.p == pytest.approx(t.pvalue, abs=0.04)
    assert paired_bootstrap(first + 1, second).p == pytest.approx(2 / 2001)
    same = paired_bootstrap(first, first)
    assert (same.difference, same.p, same.effect) == (0, 1, 0)
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap(first, second[:-1])


def test_mcnemar_by_hand():
    # 8 users to 2: p = 2 (1 + 10 + 45) / 2^10
    first = np.array([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5)
    second = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    found = mcnemar(first, second)
    assert found.p == pytest.approx(112 / 1024)
    assert found.difference == pytest.approx(6 / 20)
    assert found.effect == pytest.approx(0.6)
    assert found.note == "8 users to 2"
    half = 1.959964 * math.sqrt(10 - 36 / 20) / 20
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half))


def test_mcnemar_is_the_binomial_test():
    rng = np.random.default_rng(6)
    first, second = (rng.random(90) < 0.5), (rng.random(90) < 0.4)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    assert mcnemar(first, second).p == pytest.approx(stats.binomtest(b, b + c).pvalue)


def test_mcnemar_edges():
    same = mcnemar([1, 0, 1], [1, 0, 1])
    assert (same.p, same.effect) == (1, 0)
    assert mcnemar([1, 0], [0, 1]).p == 1
    with pytest.raises(ValueError, match="hits"):
        mcnemar([0.5], [1])


def test_wilcoxon_by_hand():
    # all five positive: exact p = 2 / 2^5; one smallest negative: 2 * 2 / 2^5
    found = wilcoxon([1.0, 2, 3, 4, 5], np.zeros(5))
    assert (found.p, found.effect) == pytest.approx((2 / 32, 1))
    found = wilcoxon([-1.0, 2, 3, 4, 5, 0], np.zeros(6))
    assert (found.p, found.effect) == pytest.approx((4 / 32, 13 / 15))
    assert wilcoxon([1.0, 2], [1.0, 2]).p == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_p_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_effect_sizes_by_hand():
    assert cohens_d([1, 2, 3]) == pytest.approx(2)
    assert cohens_d([0, 0]) == 0
    assert cohens_d([1, 1]) == math.inf
