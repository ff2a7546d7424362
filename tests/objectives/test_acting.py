"""The loss's own gradient as metrics: hand-worked slopes and shares, and nothing of the training moves."""

from __future__ import annotations

import pytest
import torch

from raypref.config.objectives import OBJECTIVE_CONFIGS
from raypref.objectives import OBJECTIVES, PreferenceBatch
from raypref.objectives.acting import acting_metrics


def batch(neg: list[list[float]], pos: list[float]) -> PreferenceBatch:
    negatives = torch.tensor(neg, requires_grad=True)
    positives = torch.tensor(pos, requires_grad=True)
    return PreferenceBatch(
        policy_logps_pos=positives,
        policy_logps_neg=negatives,
        tokens_pos=torch.full_like(positives, 2),
        tokens_neg=torch.full_like(negatives, 4),
        ref_logps_pos=torch.full_like(positives, -3.0),
        ref_logps_neg=torch.full_like(negatives, -3.0),
    )


def acting(name: str, given: PreferenceBatch, **values) -> dict[str, torch.Tensor]:
    params = OBJECTIVE_CONFIGS[name].model_validate({"name": name, **values})
    return acting_metrics(given, OBJECTIVES[name][0](given, params, {}))


def test_dpo_slope_is_the_sigmoid_of_minus_the_logit():
    """hp - hd = -2 - (-4) = 2, beta 0.5: z = 1, |dl/dz| = sigmoid(-1), whatever beta is."""
    found = acting("dpo", batch([[-4.0]], [-2.0]), beta=0.5)
    assert found["slope"].tolist() == pytest.approx([1 / (1 + 2.718281828**1)], rel=1e-6)
    assert found["gradient_share_1"].tolist() == pytest.approx([1.0])
    assert found["drift"].tolist() == pytest.approx([(1 / 2 + 1 / 4) / 2])
    assert found["logp_pos"].tolist() == [-2.0]


def test_a_list_shares_its_push_by_softmax_hardest_first():
    given = batch([[-5.0, -3.0, -4.0]], [-3.0])
    found = acting("sdpo", given, beta=1.0)
    shares = torch.tensor([-5.0, -3.0, -4.0]).softmax(0).sort(descending=True).values
    assert [found[f"gradient_share_{k}"].item() for k in (1, 2, 3)] == pytest.approx(shares.tolist(), rel=1e-5)
    z = torch.logsumexp(torch.tensor([-2.0, 0.0, -1.0]), 0)
    assert found["slope"].item() == pytest.approx(torch.sigmoid(z).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["sdpo", "dpo", "ipo", "cpo", "dmpo"])
def test_the_gradient_that_trains_is_the_same_to_the_bit(name):
    found = []
    for logged in (False, True):
        given = batch([[-5.0, -3.3], [-2.0, -7.0]], [-3.0, -1.7])
        output = OBJECTIVES[name][0](given, OBJECTIVE_CONFIGS[name].model_validate({"name": name}), {})
        if logged:
            acting_metrics(given, output)
        output.losses.mean().backward()
        found.append((given.policy_logps_pos.grad, given.policy_logps_neg.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_without_a_graph_only_what_needs_none():
    given = batch([[-4.0]], [-2.0])
    with torch.no_grad():
        assert set(acting("sdpo", given)) == {"logp_pos", "drift"}
