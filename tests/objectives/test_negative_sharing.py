"""Who shares with whom, and what a shared negative brings along."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raypref.objectives.sharing import NegativePool, nearest
from tests.support.objective_batches import apply, random_batch


@pytest.mark.parametrize(
    ("b", "rho", "count"),
    [(5, 0.0, 0), (5, 0.24, 0), (5, 0.25, 1), (5, 0.7, 2), (5, 1.0, 4), (11, 0.7, 7), (101, 0.29, 29), (1, 1.0, 0)],
)
def test_how_many_neighbours(b: int, rho: float, count: int) -> None:
    """floor((B - 1) rho): 4 x .7 = 2.8 is 2; 10 x .7 is 7 and 100 x .29 is 29, in spite of floating point."""
    assert nearest(torch.randn(b, 3), rho).shape == (b, count)


def test_the_nearest_by_inner_product_never_oneself() -> None:
    """Row 0 = (1, 0): products with rows 1..3 are 2, -1, .5. A user's product with itself, 1, is not a candidate."""
    embeddings = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.5, 9.0]])
    assert nearest(embeddings, 1.0)[0].tolist() == [1, 3, 2]
    assert nearest(embeddings, 0.34)[0].tolist() == [1]
    assert all(row not in neighbours for row, neighbours in enumerate(nearest(embeddings, 1.0).tolist()))


def test_ties_go_to_the_earlier_row() -> None:
    assert nearest(torch.ones(5, 2), 0.5).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_a_pool_is_own_first_then_by_nearness() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    pool = NegativePool(torch.tensor([[2, 1], [0, 2], [1, 0]]))
    assert pool.extend(values).tolist() == [[1, 2, 5, 6, 3, 4], [3, 4, 1, 2, 5, 6], [5, 6, 3, 4, 1, 2]]


def test_the_threshold_of_napo_averages_over_shared_negatives_too() -> None:
    """User 0 is everyone's nearest (rho takes one), user 1 is user 0's: pools hold conf 0's value three times.

    Confidences .9, .3, .6 by user: pools (.9, .3), (.3, .9), (.6, .9), mean 3.9 / 6 = .65, not the own mean .6.
    """
    batch = random_batch(3, 1)
    columns = {
        "expert_confidence_neg": torch.tensor([[0.9], [0.3], [0.6]], dtype=torch.float64),
        "sequence_embedding": torch.tensor([[3.0, 1.0], [1.0, 1.0], [0.5, -1.0]], dtype=torch.float64),
    }
    assert nearest(columns["sequence_embedding"], 0.5).tolist() == [[1], [0], [0]]
    state = {"R0": torch.tensor(0.0)}
    metrics = apply(replace(batch, columns=columns), state, name="napo", rho=0.5).metrics
    assert metrics["confidence"].tolist() == pytest.approx([0.65] * 3)
    assert metrics["gamma"].tolist() == pytest.approx([1 + 0.3 * 0.65] * 3)
    assert state["R0"].item() == pytest.approx(0.1 * 0.65)


def test_a_shared_negative_has_the_default_margin() -> None:
    """It is a random title to this user: phi = 3 / 11^.5, whatever its owner thought of it."""
    batch = random_batch(4, 2)
    own, pooled = (
        apply(batch, **({"name": "sdpo", "margin": "ratio"} | more)).metrics["gamma"]
        for more in ({}, {"share_negatives": True, "rho": 1.0})
    )
    phi_pos = batch.columns["rating_pos"] / batch.columns["latency_pos"] ** 0.5
    expected = (2 * own + 6 * 2.0 * phi_pos / (3 / 11**0.5)) / 8
    torch.testing.assert_close(pooled, expected)


def test_rewards_are_of_own_negatives_with_and_without_sharing() -> None:
    """So that NAPO's accuracy can be read beside S-DPO's; the effective number of negatives is of the pool."""
    batch = random_batch(6, 3)
    plain, shared = (
        apply(batch, **values).metrics
        for values in ({"name": "sdpo"}, {"name": "sdpo", "share_negatives": True, "rho": 1.0})
    )
    for name in ("reward_pos", "reward_neg", "reward_margin", "pair_accuracy", "list_accuracy"):
        assert torch.equal(plain[name], shared[name])
    assert (plain["effective_negatives"] <= 3 + 1e-9).all()
    assert (shared["effective_negatives"] > plain["effective_negatives"]).any()
