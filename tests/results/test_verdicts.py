"""Better, equivalent, undecided: hand-worked tests, errors of planted sweeps, and stops that may come at any time."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raypref.results.choice import choose
from raypref.results.crossed import SeedSpread
from raypref.results.paired import Excess, difference_spread, paired_difference
from raypref.results.sequential import look, nominal
from raypref.results.statistics import Test, mcnemar
from raypref.results.verdicts import BETTER, EQUIVALENT, UNDECIDED, UNTESTED, WORSE, equivalence_p, verdicts


def load_judge():
    """The benchmark's module."""
    path = Path(__file__).parents[2] / "benchmarks" / "verdicts.py"
    spec = importlib.util.spec_from_file_location("judge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["judge"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def measured(difference: float, error: float, freedom: float = 20) -> Test:
    p = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return Test(difference, math.nan, math.nan, p, 0.0, 100, "", error, freedom)


def test_equivalence_is_two_one_sided_tests():
    test = measured(0.004, 0.003)
    one, two = stats.t.sf((0.004 + 0.01) / 0.003, 20), stats.t.cdf((0.004 - 0.01) / 0.003, 20)
    assert equivalence_p(test, 0.01) == pytest.approx(max(one, two), rel=1e-9)
    hits = mcnemar([1, 1, 0, 0] * 50, [1, 0, 1, 0] * 50)
    assert equivalence_p(hits, 0.2) == pytest.approx(stats.norm.sf(0.2 / hits.error), rel=1e-9)
    assert equivalence_p(measured(0.012, 0.001), 0.01) > 0.5
    assert math.isnan(equivalence_p(Test(0.1, 0, 0, 0.01, 0, 9), 0.01))


def test_each_verdict():
    nothing = Test(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    tests = [measured(0.03, 0.003), measured(-0.03, 0.003), measured(0.0, 0.002), measured(0.01, 0.008), nothing]
    assert verdicts(tests) == [BETTER, WORSE, EQUIVALENT, UNDECIDED, UNTESTED]
    assert verdicts([measured(0.005, 0.001)]) == [BETTER]  # both not 0 and within the margin
    assert verdicts([measured(0.0, 0.002)], margin=0.001) == [UNDECIDED]


def test_both_families_are_corrected():
    """p of 0.03 holds alone, and not beside three that say nothing."""
    alone = measured(0.0069, 0.003)
    assert verdicts([alone]) == [BETTER]
    assert verdicts([alone, *[measured(0.002, 0.02)] * 3])[0] == UNDECIDED
    close = measured(0.0, 0.005)
    assert verdicts([close]) == [EQUIVALENT]
    assert verdicts([close, *[measured(0.002, 0.02)] * 3])[0] == UNDECIDED


def frames(rng, settings=5, seeds=3, users=400, shared=0.02, own=0.0):
    shift = rng.normal(0, shared, (1, seeds, 1)) + rng.normal(0, own, (settings, seeds, 1))
    values = rng.normal(0, 0.5, (1, 1, users)) + shift + rng.normal(0, 0.1, (settings, seeds, users))
    return [pd.DataFrame(of) for of in values]


def test_pairing_leaves_out_what_a_seed_does_to_all():
    rng = np.random.default_rng(0)
    found = [difference_spread(frames(rng)) for _ in range(40)]
    expected = 2 * 0.1**2
    assert np.mean([s.rest for s in found]) == pytest.approx(expected, rel=0.02)
    assert np.mean([s.variance for s in found]) == pytest.approx(expected / 400, rel=0.15)  # and nothing of 0.02^2
    own = [difference_spread(frames(rng, own=0.03)).variance for _ in range(60)]
    assert np.mean(own) == pytest.approx(2 * 0.03**2 + expected / 400, rel=0.15)


def test_spread_of_settings_with_unequal_seeds():
    values = frames(np.random.default_rng(1), seeds=4)
    cut = [values[0], values[1].iloc[:2], values[2].iloc[:3], values[3].iloc[:1]]
    spread = difference_spread(cut)
    assert spread.freedom == (4 + 2 + 3) - (3 + 4 - 1)  # cells less settings and seeds; one seed tells nothing
    assert difference_spread([values[0], values[1].iloc[:1]]) is None


def test_paired_difference_by_hand():
    """S = 2 seeds of 4 users: A of the users' means, what a seed does to one setting alone, Satterthwaite's freedom."""
    d = np.array([[1.0, 0, 0, 1], [1, 0, 0, 0]])
    spread = SeedSpread(0.2, 0.4, 6)
    found = paired_difference(d, spread)
    a, b, c = np.var([1, 0, 0, 0.5], ddof=1) / 4, 0.2 / 2, 0.4 / 2 / 4
    assert (found.difference, found.error) == (0.375, pytest.approx(math.sqrt(a + b - c)))
    freedom = (a + b - c) ** 2 / (a**2 / 3 + b**2 / 6 + c**2 / (6 * 3))
    assert found.freedom == pytest.approx(freedom)
    known = paired_difference(d[:1], None, Excess(0.01, 0.02))
    a = np.var(d[0], ddof=1) / 4
    assert known.error == pytest.approx(math.sqrt(a + 0.01))
    assert known.freedom == pytest.approx(2 * (a + 0.01) ** 2 / (2 * a**2 / 3 + 0.02**2))
    assert math.isnan(paired_difference(d[:1], None).p)
    assert paired_difference(np.zeros((2, 5)), None, Excess(0, 0)).p == 1


def test_what_is_assumed_yields_to_what_is_seen():
    """Seeds that move one setting by ten times what was assumed: the sweep's own spread counts alone."""
    rng = np.random.default_rng(2)
    values = frames(rng, seeds=4, own=0.05)
    spread = difference_spread(values)
    d = values[1].to_numpy() - values[0].to_numpy()
    told, alone = paired_difference(d, spread, Excess(4e-6, 4e-6)), paired_difference(d, spread)
    assert told.error == alone.error > 3 * paired_difference(d, None, Excess(4e-6, 4e-6)).error


@pytest.mark.parametrize("looks", [1, 3, 5, 8])
@pytest.mark.parametrize("level", [0.0125, 0.05])
def test_all_looks_together_err_no_more_than_the_level(looks, level):
    """Sums of normal steps, looked at after each: how often any look passes the bound."""
    steps = np.random.default_rng(9).standard_normal((200_000, looks))
    z = steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    passed = (np.abs(z) > stats.norm.isf(nominal(level, looks) / 2)).any(axis=1).mean()
    assert 0.8 * level < passed < 1.1 * level


def test_many_looks_share_the_level():
    assert nominal(0.05, 40) == pytest.approx(0.05 / 40)


def test_what_was_decided_stays():
    rng = np.random.default_rng(3)
    base = (rng.random((1, 4000)) < 0.3).astype(float)
    worse = np.where(rng.random(base.shape) < 0.4, 0, base)
    first = look([worse, base.copy()], base, [], 1, 5, 0.01)
    assert first[0].verdict == WORSE
    opposite = look([1 - worse, base.copy()], base, first, 2, 5, 0.01)
    assert opposite[0] == first[0]


def test_a_given_model_stands_for_every_seed():
    """Popularity as the reference has one row; it is compared with all seeds of a method, and with another such one."""
    rng = np.random.default_rng(4)
    given = (rng.random((1, 3000)) < 0.1).astype(float)
    trained = (rng.random((3, 3000)) < 0.3).astype(float)
    found = look([trained, given.copy()], given, [], 1, 5, 0.01, given={0, 2})
    assert found[0].verdict == BETTER
    assert found[0].test.difference == pytest.approx(trained.mean() - given.mean())
    assert found[1].test.difference == 0
    assert look([given.copy()], given, [], 1, 5, 0.01, given={0, 1})[0].test.difference == 0


def test_planted_sweeps_decided_in_rounds():
    """A small judge: the whole one is benchmarks/verdicts.py."""
    judge = load_judge()
    judge.PANELS = {"mixed": judge.PANELS["mixed"]}
    found = judge.run(60, users=(943,), seed=5)
    assert found["mixed"]["false better"] <= 0.1
    assert found["mixed"]["false equivalent"] <= 0.1
    assert found["mixed"]["trials of five seeds"] < 0.45
    assert found["mixed"]["decided"] > 0.7


def test_choice_among_equals_is_nobodys_and_too_kind():
    rng = np.random.default_rng(6)
    even = [(rng.random((3, 500)) < 0.3).astype(float) for _ in range(4)]
    found = choose(even)
    assert found.chances.sum() == pytest.approx(1)
    assert found.chances.max() < 0.9
    assert 0.001 < found.optimism < 0.03
    clear = [*even[:3], np.ones((3, 500))]
    assert choose(clear).chances[3] == 1
    assert abs(choose(clear).optimism) < 1e-12


def test_a_setting_without_a_value_is_never_chosen() -> None:
    """A recommender among generated answers: the others' chances are as if it were not there."""
    rng = np.random.default_rng(0)
    good, bad = ((rng.random((2, 40)) < rate).astype(float) for rate in (0.6, 0.2))
    nothing = np.full((1, 40), np.nan)
    assert choose([nothing, bad, good]).chances.tolist() == [0.0, *choose([bad, good]).chances]
    assert choose([nothing]).chances.tolist() == [0.0]
