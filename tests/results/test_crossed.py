"""The test for other seeds and other users: worked by hand, its limits, and its level on planted chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from raypref.results.crossed import SeedSpread, crossed_test, seed_spread
from raypref.results.statistics import holm

FIRST, SECOND = [[0, 2], [2, 4]], [[0, 0], [0, 2]]


def test_by_hand():
    # seed means 1, 3 and 0, 1: V = (2 + 0.5) / 2, nu = 2; what is left over: 0 and 1, so e = 1 / 2
    spread = seed_spread([FIRST, SECOND])
    assert (spread.variance, spread.rest, spread.freedom) == pytest.approx((1.25, 0.5, 2))
    # D = 1, 2: A = 0.25, C = 0.25, B = 1.25; variance 1.25, freedom 1.5625 / (0.0625 + 0.78125 + 0.03125)
    found = crossed_test(FIRST, SECOND, spread)
    half = stats.t.ppf(0.975, 1.5625 / 0.875) * math.sqrt(1.25)
    assert (found.difference, found.low, found.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(1.5 / math.sqrt(1.25), 1.5625 / 0.875))


def test_where_users_agree_it_is_the_pooled_t_test_over_seeds():
    first, second = np.array([0.1, 0.3, 0.25]), np.array([0.5, 0.4, 0.7])
    wide = [np.tile(values[:, None], (1, 200)) for values in (first, second)]
    assert crossed_test(*wide, seed_spread(wide)).p == pytest.approx(stats.ttest_ind(first, second).pvalue, rel=1e-6)


def test_where_seeds_do_not_matter_it_nears_the_paired_t_test_over_users():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.1, 1, 400), rng.normal(0, 1, 400)
    many = SeedSpread(0.0, 0.0, 1000)
    found, expected = crossed_test(first, second, many), stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_more_spread_between_seeds_gives_a_greater_p():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, (3, 100)), rng.normal(0, 1, (3, 100))
    p = [crossed_test(first, second, SeedSpread(v, 1, 8)).p for v in (0.02, 0.1, 0.5)]
    assert p == sorted(p)
    fixed = crossed_test(first, second[:1], SeedSpread(0.1, 1, 8), fixed=True)
    assert fixed.high - fixed.low < (loose := crossed_test(first, second[:1], SeedSpread(0.1, 1, 8))).high - loose.low


def test_edges():
    spread = SeedSpread(0.01, 0.1, 4)
    assert seed_spread([np.ones((1, 5))]) is None
    assert seed_spread([]) is None
    same = crossed_test(np.ones((3, 10)), np.ones((3, 10)), spread)
    assert (same.difference, same.p) == (0, 1)
    assert crossed_test(np.ones((2, 5)), np.ones((2, 5)), SeedSpread(0, 0, 2)).p == 1
    assert math.isnan(crossed_test(np.ones((3, 1)), np.zeros((3, 1)), spread).p)
    missing = np.ones((2, 5))
    missing[1, 2] = np.nan
    assert crossed_test(missing, np.zeros((3, 5)), spread).n == 4


hits = arrays(np.float64, (3, 8), elements=st.sampled_from([0.0, 1.0]))


@settings(max_examples=50, deadline=None)
@given(hits, hits, st.permutations(range(8)))
def test_symmetry(first, second, order):
    spread = seed_spread([first, second])
    found = crossed_test(first, second, spread)
    turned = crossed_test(second[::-1, order], first[:, order], spread)
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p == pytest.approx(found.p)


@pytest.mark.measures
@pytest.mark.parametrize(
    ("groups", "seeds", "drift", "wild"),
    [(5, 3, 0, 1), (5, 3, 0.03, 1), (5, 3, 0.1, 1), (7, 3, 0.05, 1), (2, 2, 0.1, 1), (5, 5, 0.05, 1), (5, 3, 0.03, 4)],
)
def test_it_keeps_its_level_whatever_the_source_of_chance(groups, seeds, drift, wild):
    """Equal settings; users of unequal ease, seeds that drift, one setting `wild` times as much: any mark is false."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        ease = rng.normal(0.35, 0.15, 120)
        spreads = [drift * (wild if group == 1 else 1) for group in range(groups)]
        drawn = [(rng.random((seeds, 120)) < ease + rng.normal(0, s, (seeds, 1))).astype(float) for s in spreads]
        spread = seed_spread(drawn)
        p = [crossed_test(values, drawn[0], spread).p for values in drawn[1:]]
        wrong += bool((holm(p) < 0.05).any())
    assert wrong / 400 < 0.07
