"""Gradients against finite differences, and values and gradients at the ends of the number line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from raypref.objectives import PreferenceBatch
from raypref.testing.differences import finite_differences, held_fixed
from tests.support.objective_batches import VARIANTS, apply, gradients, make, random_batch, with_logps


def both(batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    return batch.policy_logps_pos, batch.policy_logps_neg


STOPPED = ("alpha-dpo", "beta-dpo")
"""Their margin or beta follows the log-probs but is not differentiated; finite differences would see it move."""


def check(batch: PreferenceBatch, loss: Callable[[Tensor, Tensor], Tensor], values: dict[str, Any]) -> None:
    params = make(**values)[1]
    if params.stops_gradient and values["name"] not in STOPPED:
        loss = held_fixed(loss, batch)
    expected = finite_differences(loss, batch)
    found = gradients(batch, apply(batch, {}, **values).losses)
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    sides = found[:1] if values.get("over") == "all" and not params.beta_kl else found  # a negative's reward is 0
    assert all(ours.abs().max() > 1e-3 for ours in sides)


@pytest.mark.parametrize("key", [key for key, values in VARIANTS.items() if values["name"] not in STOPPED])
def test_gradient(key: str) -> None:
    batch = random_batch(4, 3, seed=1)
    if VARIANTS[key].get("over") == "all":  # of probabilities that can be seen
        likelier = ((logps.detach() + 5).clamp_max(-0.5).requires_grad_() for logps in both(batch))
        batch = with_logps(batch, *likelier)
    check(batch, lambda pos, neg: apply(with_logps(batch, pos, neg), **VARIANTS[key]).losses.mean(), VARIANTS[key])


def test_gradient_of_alpha_dpo_takes_the_margin_as_given() -> None:
    batch = random_batch(4, 3, seed=1)
    ref_pos, ref_neg = batch.ref_logps_pos, batch.ref_logps_neg
    assert ref_pos is not None
    assert ref_neg is not None

    def gaps(pos: Tensor, neg: Tensor) -> Tensor:
        return 2.0 * ((pos / batch.tokens_pos)[:, None] - neg / batch.tokens_neg)

    moved = gaps(batch.policy_logps_pos - ref_pos, batch.policy_logps_neg - ref_neg).detach()
    gamma = 1.0 + 0.5 * (moved - moved.mean()) / moved.std(unbiased=False)
    values = {"name": "alpha-dpo", "beta": 2.0, "gamma0": 1.0, "alpha": 0.5}
    check(batch, lambda pos, neg: softplus(gamma - gaps(pos, neg)).mean(), values)


def test_gradient_of_beta_dpo_takes_beta_as_given() -> None:
    """The second batch: the first is its own threshold, so its beta is the plain one."""
    first, batch = random_batch(4, 3, seed=2), random_batch(4, 3, seed=1)
    values = {"name": "beta-dpo", "beta": 0.3, "filter_share": 0.0, "momentum": 0.5}
    state: dict[str, Tensor] = {}
    apply(first, state, **values)
    beta = apply(batch, dict(state), **values).metrics["beta"][0].item()
    assert abs(beta - 0.3) > 0.01
    ours = gradients(batch, apply(batch, dict(state), **values).losses)
    plain = gradients(batch, apply(batch, name="dpo", beta=beta).losses)
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=0)


def test_left_out_pairs_have_no_gradient() -> None:
    batch = random_batch(8, 1, seed=1)
    output = apply(batch, name="beta-dpo", filter_share=0.5)
    kept = output.metrics["kept_pairs"].bool()
    assert kept.sum() == 4
    gradient = gradients(batch, output.losses)[0]
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).all()
    assert (output.losses[~kept] == 0).all()


def test_gradient_flows_through_shared_negatives() -> None:
    """User 0's loss pushes on user 1's negatives, unless `shared_gradient` is off; its value is the same."""
    batch = random_batch(2, 3, seed=1)
    for name in ("napo", "sdpo"):
        values = {"name": name, "share_negatives": True, "rho": 1.0}
        through = apply(batch, **values).losses
        detached = apply(batch, **values, shared_gradient=False).losses
        assert torch.equal(through, detached)
        lent = torch.autograd.grad(through[0], batch.policy_logps_neg)[0][1]
        assert (lent.abs() > 1e-4).all()
        kept = torch.autograd.grad(detached[0], batch.policy_logps_neg)[0]
        assert (kept[1] == 0).all()
        assert (kept[0].abs() > 1e-4).all()


@pytest.mark.parametrize("key", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extreme_log_ratios(key: str, dtype: torch.dtype) -> None:
    """Log-ratios of +-1e4, in every combination of preferred and dispreferred, over two steps with one state."""
    base = random_batch(4, 3, seed=1, dtype=dtype)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    pos = (signs * 1e4).to(dtype).requires_grad_()
    neg = (torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None] * torch.tensor([1e4, 1e4, -1e4])).to(dtype).requires_grad_()
    batch = with_logps(base, pos, neg)
    state: dict[str, Tensor] = {}
    for _ in range(2):
        output = apply(batch, state, **VARIANTS[key])
        assert output.losses.dtype == torch.float32
        for value in (output.losses, *gradients(batch, output.losses), *output.metrics.values(), *state.values()):
            assert value.isfinite().all()
        assert all(value.shape == (4,) and not value.requires_grad for value in output.metrics.values())


def test_a_lost_list_costs_what_it_is_lost_by() -> None:
    """At -1e4 the logistic losses are linear: 1e4 and slope 1, not infinity and not a rounded 0."""
    batch = with_logps(random_batch(1, 1, dtype=torch.float32), torch.zeros(1), torch.full((1, 1), 1e4))
    for name in ("sims-dpo", "cpo"):
        values = {"name": name, "beta": 1.0} | ({"c_nll": 0.0} if name == "cpo" else {})
        assert apply(batch, **values).losses.item() == pytest.approx(1e4)


def test_half_inputs_are_reduced_in_float32() -> None:
    """The inputs are exact in bf16; -101 / 3 is not, so a division there would show."""
    pos = torch.tensor([-101.0], dtype=torch.bfloat16)
    neg = torch.tensor([[-100.0, -102.0]], dtype=torch.bfloat16)
    tokens = torch.tensor([3]), torch.tensor([[3, 3]])
    halves, singles = (
        apply(PreferenceBatch(pos.to(t), neg.to(t), *tokens), name="simpo").losses for t in (pos.dtype, torch.float32)
    )
    assert torch.equal(halves, singles)
    assert apply(random_batch(), name="simpo").losses.dtype == torch.float64
