"""What is predicted before a sweep: Student's t against SciPy's, the smallest difference, and what would be needed."""

from __future__ import annotations

import json
import math

import pytest
from scipy import stats

from raypref.results.power import (
    ASSUMED,
    Spread,
    known_spread,
    pooled,
    resolved,
    seeds_for,
    smallest_difference,
    users_for,
)


def test_smallest_difference_by_hand():
    assert smallest_difference(0.01, math.inf) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-6)
    assert smallest_difference(1, 8, 4) == pytest.approx(stats.t.ppf(1 - 0.05 / 8, 8) + stats.t.ppf(0.8, 8), rel=1e-6)


def test_error_has_three_parts():
    spread = Spread(lasting=0.1, passing=0.2, seeds=0.003)
    assert spread.error(100, 2) == pytest.approx(math.sqrt(0.1 / 100 + 0.2 / 200 + 0.003 / 2))


def test_needed_seeds_and_users_are_the_fewest():
    users = users_for(0.01, ASSUMED, 3, 5)
    assert resolved(ASSUMED, users, 3, 5) <= 0.01 < resolved(ASSUMED, users - 1, 3, 5)
    seeds = seeds_for(0.01, ASSUMED, 943, 5)
    assert resolved(ASSUMED, 943, seeds, 5) <= 0.01 < resolved(ASSUMED, 943, seeds - 1, 5)
    noisy = Spread(0.5, 0.1, 1e-3)
    assert seeds_for(0.001, noisy, 100, 5) is None
    assert users_for(0.001, noisy, 3, 5) is None
    assert math.isinf(resolved(ASSUMED, 943, 1, 5))


def test_earlier_sweeps_of_the_same_data_are_pooled(tmp_path):
    assert known_spread(tmp_path, "generated") == ASSUMED
    for number, (dataset, lasting, freedom) in enumerate([("generated", 0.1, 2), ("generated", 0.4, 4), ("csv", 9, 9)]):
        folder = tmp_path / "sweeps" / str(number)
        folder.mkdir(parents=True)
        content = {"dataset": dataset, "lasting": lasting, "passing": 0.0, "seeds": 0.0, "freedom": freedom}
        (folder / "spread.json").write_text(json.dumps(content | {"users": 5}))
    found = known_spread(tmp_path, "generated")
    assert (found.lasting, found.freedom) == (pytest.approx(0.3), 6)
    assert "2 earlier sweeps of generated" in found.source
    assert pooled([], "") is None
