"""Which losses are which others at the edges of their parameters, and what no loss may depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raypref.config.objective_switches import Z_C
from raypref.objectives import PreferenceBatch
from tests.support.objective_batches import VARIANTS, apply, gradients, make, random_batch, rows, with_logps

EXAMPLE_SCOPE = [key for key, values in VARIANTS.items() if make(**values)[1].scope == "example"]


def same(batch: PreferenceBatch, one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = apply(batch, **one).losses, apply(batch, **other).losses
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    for a, b in zip(gradients(batch, first), gradients(batch, second)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("k", "one", "other"),
    [
        (1, {"name": "sdpo", "beta": 0.7}, {"name": "dpo", "beta": 0.7}),
        (1, {"name": "dmpo", "beta": 0.7}, {"name": "dpo", "beta": 0.7}),
        (3, {"name": "recpo", "lambda": 0.0}, {"name": "sdpo"}),
        (3, {"name": "napo", "rho": 0.0, "gamma0": 0.0}, {"name": "sims-dpo"}),
        (3, {"name": "napo", "share_negatives": False, "gamma0": 0.0}, {"name": "sims-dpo"}),
        (3, {"name": "eapo", "u_beta": Z_C / 3, "gamma": 3.0}, {"name": "dpo", "beta": Z_C / 3}),
        (3, {"name": "ea-sdpo", "u_beta": Z_C / 3, "gamma": 3.0}, {"name": "sdpo", "beta": Z_C / 3}),
        (3, {"name": "ea-cpo", "u_beta": Z_C / 3, "gamma": 3.0}, {"name": "cpo", "beta": Z_C / 3}),
        (3, {"name": "ea-ipo", "u_beta": 1.0, "gamma": Z_C}, {"name": "ipo"}),
        (3, {"name": "dpo", "adaptive_beta": "expert"}, {"name": "eapo"}),
        (3, {"name": "sdpo", "margin": "ratio"}, {"name": "recpo"}),
        (3, {"name": "sdpo", "share_negatives": True, "rho": 0.0}, {"name": "sdpo"}),
        (3, {"name": "rosepo", "epsilon": 0.0}, {"name": "dpo"}),
        (3, {"name": "beta-dpo", "a": 0.0, "filter_share": 0.0}, {"name": "dpo", "beta": 0.1}),
        (3, {"name": "alpha-dpo", "alpha": 0.0}, {"name": "simpo", "beta": 2.5, "gamma0": 1.5}),
    ],
    ids=lambda value: value if isinstance(value, int) else value["name"],
)
def test_identities(k: int, one: dict[str, Any], other: dict[str, Any]) -> None:
    same(random_batch(k=k), one, other)


def test_recpo_without_margin_is_sdpo_to_the_bit() -> None:
    for dtype in (torch.float32, torch.float64):
        batch = random_batch(64, 5, dtype=dtype)
        recpo = apply(batch, **{"name": "recpo", "lambda": 0.0}).losses
        sdpo = apply(batch, name="sdpo").losses
        assert torch.equal(recpo, sdpo)
        for a, b in zip(gradients(batch, recpo), gradients(batch, sdpo)):
            assert torch.equal(a, b)


def test_recpo_with_a_constant_margin_is_sdpo_with_a_shifted_logit() -> None:
    """All titles alike: m_k = 1, so the loss is that of a policy whose lp is lower by lambda / beta."""
    batch = random_batch()
    alike = {name: torch.full_like(value, 4.0) for name, value in batch.columns.items() if "rating" in name}
    times = {name: torch.full_like(value, 2.0) for name, value in batch.columns.items() if "latency" in name}
    recpo = apply(replace(batch, columns=alike | times), **{"name": "recpo", "lambda": 1.5, "beta": 0.5})
    shifted = with_logps(batch, batch.policy_logps_pos - 1.5 / 0.5, batch.policy_logps_neg)
    torch.testing.assert_close(recpo.losses, apply(shifted, name="sdpo", beta=0.5).losses)
    torch.testing.assert_close(recpo.metrics["gamma"], torch.full_like(recpo.losses, 1.5))


def test_the_expert_cannot_tell_when_all_score_alike() -> None:
    """EAPO eq. 9 is 0 / 0 then; beta is U_beta."""
    batch = random_batch()
    flat = {name: torch.zeros_like(value) for name, value in batch.columns.items() if "score" in name}
    output = apply(replace(batch, columns=flat), name="eapo", u_beta=0.6)
    torch.testing.assert_close(output.losses, apply(batch, name="dpo", beta=0.6).losses)


@pytest.mark.parametrize("shift", [-10, 10])  # all of one sign, so that padding taken for 0 would show at either end
def test_betas_of_eapo_span_their_interval_over_all_candidates(shift: int) -> None:
    batch = random_batch(k=8)
    scores = batch.columns["expert_score_all_neg"] + shift
    columns = {"expert_score_neg": scores[:, :8], "expert_score_all_neg": scores}
    nine = replace(batch, columns=batch.columns | columns)
    padded = torch.cat((scores, torch.full((6, 2), torch.nan)), dim=1)  # prompts with fewer candidates
    longer = replace(nine, columns=nine.columns | {"expert_score_all_neg": padded})
    plain, with_padding = (apply(b, name="eapo", u_beta=0.75, gamma=5.0) for b in (nine, longer))
    torch.testing.assert_close(plain.losses, with_padding.losses)
    for k in range(8):
        beta = apply(pick(nine, k), name="eapo").metrics["beta"]
        hardest = scores[:, k] == scores.max(dim=1).values
        easiest = scores[:, k] == scores.min(dim=1).values
        torch.testing.assert_close(beta[hardest], torch.full_like(beta[hardest], Z_C / 5))
        torch.testing.assert_close(beta[easiest], torch.full_like(beta[easiest], 0.75))
        assert ((beta >= Z_C / 5 - 1e-9) & (beta <= 0.75 + 1e-9)).all()


def test_one_pair_is_at_its_own_mean() -> None:
    """A standard deviation of 0 divides nothing: z = 0, so alpha-DPO is SimPO, and beta-DPO keeps the pair."""
    batch = random_batch(1, 1)
    same(batch, {"name": "alpha-dpo"}, {"name": "simpo", "beta": 2.5, "gamma0": 1.5})
    same(batch, {"name": "beta-dpo"}, {"name": "dpo", "beta": 0.1})


def pick(batch: PreferenceBatch, k: int) -> PreferenceBatch:
    """The batch with its k-th negative alone."""
    order = torch.full((len(batch.policy_logps_pos), 1), k)
    return reorder(batch, order)


def reorder(batch: PreferenceBatch, order: Tensor) -> PreferenceBatch:
    """Each example's negatives, and all that is said of them, in the order (B, K) given."""
    neg = {name: getattr(batch, name).gather(1, order) for name in ("policy_logps_neg", "ref_logps_neg", "tokens_neg")}
    columns = {
        name: value.gather(1, order) if name.endswith("_neg") and "all" not in name else value
        for name, value in batch.columns.items()
    }
    return replace(batch, **neg, columns=columns)


# the filter of beta-dpo draws pairs by their place, so there only its distribution is invariant
ORDERLESS = [key for key in VARIANTS if key not in ("beta-dpo", "beta-dpo+margin")]


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(ORDERLESS), seed=st.integers(0, 2**16), b=st.integers(2, 5), k=st.integers(1, 5))
def test_the_order_of_negatives_is_nothing(key: str, seed: int, b: int, k: int) -> None:
    batch = random_batch(b, k, seed=seed)
    order = torch.rand((b, k), generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    before, after = (apply(each, **VARIANTS[key]).losses for each in (batch, reorder(batch, order)))
    torch.testing.assert_close(before, after)
    (gradient_before, gradient_after) = (
        torch.autograd.grad(losses.sum(), batch.policy_logps_neg)[0] for losses in (before, after)
    )
    torch.testing.assert_close(gradient_before, gradient_after)


@settings(max_examples=30, deadline=None)
@given(key=st.sampled_from(ORDERLESS), seed=st.integers(0, 2**16))
def test_the_order_of_examples_is_nothing(key: str, seed: int) -> None:
    batch = random_batch(5, 2, seed=seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    before, after = apply(batch, **VARIANTS[key]).losses, apply(rows(batch, order), **VARIANTS[key]).losses
    torch.testing.assert_close(before[order], after)


@pytest.mark.parametrize("key", EXAMPLE_SCOPE)
def test_micro_batches_add_up(key: str) -> None:
    whole = random_batch(8, 3)
    output = apply(whole, **VARIANTS[key])
    expected = gradients(whole, output.losses)
    parts = [rows(whole, slice(start, start + 2)) for start in (0, 2, 4, 6)]
    outputs = [apply(part, **VARIANTS[key]) for part in parts]
    torch.testing.assert_close(torch.cat([each.losses for each in outputs]), output.losses)
    for name, value in output.metrics.items():
        torch.testing.assert_close(torch.cat([each.metrics[name] for each in outputs]), value)
    pieces = [gradients(part, each.losses) for part, each in zip(parts, outputs)]
    for index in (0, 1):
        accumulated = torch.cat([piece[index] / len(parts) for piece in pieces])
        torch.testing.assert_close(accumulated, expected[index])


@pytest.mark.parametrize(
    ("key", "before"), [("napo", {}), ("sdpo+ns", {}), ("alpha-dpo", {}), ("beta-dpo unfiltered", {"M0": 1.0})]
)
def test_batch_scope_is_no_empty_word(key: str, before: dict[str, float]) -> None:
    """The batch methods do change when the batch is cut: were they per example, the gather would be for nothing."""

    def losses(batch: PreferenceBatch) -> Tensor:
        return apply(batch, {name: torch.tensor(value) for name, value in before.items()}, **VARIANTS[key]).losses

    whole = random_batch(8, 3)
    cut = torch.cat([losses(rows(whole, part)) for part in (slice(0, 4), slice(4, 8))])
    assert not torch.allclose(losses(whole), cut)
