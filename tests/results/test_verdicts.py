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
from raypref.results.sequential import HOPELESS, chance_to_decide, look, nominal
from raypref.results.statistics import Test, hochberg, mcnemar
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


def test_few_users_that_agree_prove_nothing():
    """Were the difference 0.01, none of 20 users would show it four times in five; one of 2,000 always would."""
    few, many = ([np.tile([1.0, 0.0], users // 2)] * 2 for users in (20, 2000))
    assert verdicts([mcnemar(*few)]) == [UNDECIDED]
    assert verdicts([mcnemar(*many)]) == [EQUIVALENT]
    half = paired_difference(np.tile([0.5, -0.5, 0, 0], (2, 100)), None, Excess(0, 0))
    assert half.step == 0.25  # half an answer with one of two seeds


def test_equivalences_are_corrected_by_hochberg():
    """All four at p just below the level: step-up has them all, step-down none."""
    tests = [measured(0.0, 0.0056)] * 4
    assert 0.04 < equivalence_p(tests[0], 0.01) < 0.05
    assert verdicts(tests) == [EQUIVALENT] * 4
    assert verdicts([*tests, measured(0.005, 0.02)])[:4] == [UNDECIDED] * 4
    assert hochberg([0.01, 0.04, 0.03, math.nan]).tolist() == pytest.approx([0.03, 0.04, 0.04, math.nan], nan_ok=True)


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
    known = paired_difference(d[:1], None, Excess(0.006, 0.012, cube=2.0, cube_uncertainty=8.0))
    a, excess = np.var(d[0], ddof=1) / 4, 0.006 + 2.0 * 0.12**3  # half of the users' answers change: as 0.12 do
    assert known.error == pytest.approx(math.sqrt(a + excess))
    assert known.freedom == pytest.approx(2 * (a + excess) ** 2 / (2 * a**2 / 3 + 0.012**2 + (8.0 * 0.12**3) ** 2))
    assert math.isnan(paired_difference(d[:1], None).p)
    assert paired_difference(np.zeros((2, 5)), None, Excess(0, 0)).p == 1


def test_what_is_assumed_yields_to_what_is_seen():
    """Seeds that move one setting by ten times what was assumed: the sweep's own spread counts alone."""
    rng = np.random.default_rng(2)
    values = frames(rng, seeds=4, own=0.05)
    spread = difference_spread(values)
    d = values[1].to_numpy() - values[0].to_numpy()
    told, alone = paired_difference(d, spread, Excess(4e-6, 4e-6)), paired_difference(d, spread)
    assert told.error == pytest.approx(
        alone.error, rel=0.1
    )  # of all settings' seeds alike, but as much as these change
    assert told.error > 3 * paired_difference(d, None, Excess(4e-6, 4e-6)).error


def any_error(looks: int, margin: float, truth: float, level: float = 0.05, settings: int = 4) -> float:
    """How often any of so many comparisons with one default errs: normal differences, a fifth of whose variance with
    one seed (1) lasts over seeds, looked at as `look` does, where errors and what lasts are known.
    """
    lasting, draws, share = 0.2, 20_000, nominal(level, looks)
    rng = np.random.default_rng(9)
    models = math.sqrt(lasting / 2) * rng.standard_normal((draws, settings + 1, 1)) + math.sqrt(
        (1 - lasting) / 2
    ) * rng.standard_normal((draws, settings + 1, looks)).cumsum(axis=2) / np.arange(1, looks + 1)
    differences = models[:, 1:] - models[:, :1] + truth
    going = np.ones((draws, settings), bool)
    said, wrong = [np.zeros_like(going), np.zeros_like(going)], np.zeros(draws, bool)
    for look_number in range(1, looks + 1):
        d, variance = differences[..., look_number - 1], lasting + (1 - lasting) / look_number
        p = (
            2 * stats.norm.sf(np.abs(d) / math.sqrt(variance)),
            stats.norm.sf((margin - np.abs(d)) / math.sqrt(variance)),
        )
        new = [rejected(values, going, before, share, up) for values, before, up in zip(p, said, (False, True))]
        new[1] &= ~new[0]
        wrong |= (new[0] & (np.sign(d) * truth <= 0)).any(axis=1) if truth == 0 else new[1].any(axis=1)
        said = [before | now for before, now in zip(said, new)]
        going &= ~new[0] & ~new[1]
        known = lasting if look_number > 1 else 0.0
        later = known + (variance - known) * look_number / looks
        going &= chance_to_decide(d, variance, later, margin, share / settings) >= HOPELESS
    return float(wrong.mean())


def rejected(p, going, before, level, up):
    """Holm's steps, or up: Hochberg's, among those not rejected before; those that are closed have p = 1."""
    ordered = np.sort(np.where(before, 2.0, np.where(going, p, 1.0)), axis=1)  # rejected ones last
    left = p.shape[1] - before.sum(axis=1, keepdims=True) - np.arange(p.shape[1])
    small = ordered * left <= level
    count = (
        np.where(small & (left > 0), np.arange(1, p.shape[1] + 1), 0).max(axis=1)
        if up
        else (np.cumprod(small & (left > 0), axis=1).sum(axis=1))
    )
    bound = np.where(count > 0, np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0], -1.0)
    return going & ~before & (p <= bound[:, None])


@pytest.mark.parametrize("looks", [2, 3, 5, 8])
def test_all_looks_together_err_no_more_than_the_level(looks):
    """Of equal settings, and of settings that differ by the margin; the margin in errors of one seed."""
    for margin in (0.0, 1.5, 3.0):
        assert any_error(looks, margin, 0.0) < 0.055
    assert 0.02 < any_error(looks, 3.0, 3.0) < 0.055


def test_what_was_decided_stays():
    rng = np.random.default_rng(3)
    base = (rng.random((1, 4000)) < 0.3).astype(float)
    worse = np.where(rng.random(base.shape) < 0.1, 0, base)
    first = look([worse, base.copy()], base, [], 1, 5, 0.01)
    assert first[0].verdict == WORSE
    opposite = look([1 - worse, base.copy()], base, first, 2, 5, 0.01)
    assert opposite[0] == first[0]


def test_one_seed_that_changes_many_answers_waits_for_another():
    rng = np.random.default_rng(3)
    base = (rng.random((2, 4000)) < 0.3).astype(float)
    worse = np.where(rng.random(base.shape) < 0.4, 0, base)
    first = look([worse[:1]], base[:1], [], 1, 5, 0.01)
    assert (first[0].verdict, first[0].open) == (UNDECIDED, True)
    assert look([worse], base, first, 2, 5, 0.01)[0].verdict == WORSE


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
    found = judge.run(60, users=(943,), seed=5)["mixed"]
    assert found["`--decide`: any false better or worse"] <= 0.1
    assert found["`--decide`: any false equivalent"] <= 0.1
    assert found["`--decide`: trials, of those of five seeds"] < 0.4
    assert found["`--decide`: says what five seeds at once say"] > 0.85


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


def test_settings_that_hardly_differ_are_judged_by_their_own_seeds() -> None:
    """Pooled with settings that move far more, they had a freedom of 0.0003, and an interval of 1e148."""
    rng = np.random.default_rng(0)
    taste = (rng.random(900) < 0.4).astype(float)

    def trained(share: float) -> np.ndarray:
        return np.where(rng.random((3, 900)) < share, 1 - taste, taste)

    base = trained(0.01)
    near = base.copy()
    near[0, 0], near[1, 1] = 1 - base[0, 0], 1 - base[1, 1]
    spread = difference_spread([pd.DataFrame(values) for values in (base, near, *(trained(0.1) for _ in range(3)))])
    found = paired_difference(near - base, spread)
    assert found.freedom == pytest.approx(2, abs=0.1)  # three seeds
    assert found.low <= found.difference <= found.high
    assert found.high - found.low < 0.01
