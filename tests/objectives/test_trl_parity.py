"""Values and gradients against TRL's own loss code, called on random log-probs.

Where TRL's definition differs from ours, the difference is a formula in the test, not a tolerance:

- IPO: TRL averages log-ratios over tokens; ours does with `length_normalised`. Its `beta` is our `tau`.
- robust: rDPO, the unbiased estimate; RosePO is the conservative one (cDPO), which TRL has as label smoothing of CPO.
- CPO: TRL averages the likelihood term over the tokens of the batch, ours over titles; equal for titles of one length.
- SimPO: TRL gives the margin as gamma, divides by beta and multiplies again; ours is gamma0.
- K > 1: TRL has pairs only; ours is the mean over the K pairs.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from raypref.objectives import PreferenceBatch
from tests.support.objective_batches import apply

pytest.importorskip("trl", reason="the parity tests need TRL (pip install raypref[test])")
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer

B, LENGTH = 12, 7


class Tokens:
    """Log-probs of the tokens of B preferred and B dispreferred titles, leaves of the gradient, and their sums."""

    def __init__(self, seed: int = 0, lengths: Tensor | None = None) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(1, LENGTH + 1, (2 * B,), generator=draw) if lengths is None else lengths
        self.mask = torch.arange(LENGTH) < self.lengths[:, None]
        self.logps = (
            -2 * torch.rand((2 * B, LENGTH), generator=draw, dtype=torch.float64) * self.mask
        ).requires_grad_()
        self.ref = -2 * torch.rand(2 * B, generator=draw, dtype=torch.float64) * self.lengths

    @property
    def batch(self) -> PreferenceBatch:
        pos, neg = self.logps.sum(dim=1).chunk(2)
        ref_pos, ref_neg = self.ref.chunk(2)
        tokens_pos, tokens_neg = self.lengths.chunk(2)
        return PreferenceBatch(pos, neg[:, None], tokens_pos, tokens_neg[:, None], ref_pos, ref_neg[:, None])


def accelerator() -> Any:
    return SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x)


def trl_dpo(tokens: Tokens, loss_type: str, beta: float, label_smoothing: float = 0.0) -> tuple[Tensor, dict[str, Any]]:
    """TRL's `DPOTrainer._compute_loss`, the model in it replaced by the log-probs: the mean loss, and what it logs."""
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        use_weighting=False,
        args=SimpleNamespace(),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    prompt = torch.zeros((2 * B, 1), dtype=torch.long)  # one prompt token, which the loss shifts away
    mask = torch.cat((prompt, tokens.mask.long()), dim=1)
    zeros = torch.zeros(2 * B, LENGTH)
    outputs = SimpleNamespace(log_probs=tokens.logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    ref_pos, ref_neg = tokens.ref.chunk(2)
    inputs = {
        "input_ids": mask,
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": ref_pos,
        "ref_rejected_logps": ref_neg,
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    return loss, trainer._metrics["train"]


def trl_cpo(tokens: Tokens, loss_type: str, **settings: float) -> Tensor:
    """TRL's `CPOTrainer.get_batch_loss_metrics` around its `cpo_loss`, the model replaced by the log-probs."""
    sums = tokens.logps.sum(dim=1)
    scored = sums / tokens.lengths if loss_type == "simpo" else sums  # TRL's concatenated_forward averages for SimPO
    nll = -tokens.logps[:B].sum() / tokens.lengths[:B].sum()
    zeros = torch.zeros(B, 1, 1)
    defaults = {"beta": 0.1, "label_smoothing": 0.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0}
    values: dict[str, Any] = defaults | settings
    trainer = SimpleNamespace(
        accelerator=accelerator(), loss_type=loss_type, alpha=0.0, aux_loss_enabled=False, **values
    )
    trainer.concatenated_forward = lambda model, batch: (*scored.chunk(2), zeros, zeros, nll)
    trainer.cpo_loss = lambda *logps: CPOTrainer.cpo_loss(trainer, *logps)
    loss: Tensor = CPOTrainer.get_batch_loss_metrics(trainer, None, {})[0]
    return loss


def check(tokens: Tokens, theirs: Tensor, **values: Any) -> None:
    ours = apply(tokens.batch, **values).losses.mean()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    (our_gradient,) = torch.autograd.grad(ours, tokens.logps)
    (their_gradient,) = torch.autograd.grad(theirs, tokens.logps)
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-5, rtol=0)
    assert our_gradient.abs().max() > 1e-3


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_sigmoid_dpo(beta: float) -> None:
    tokens = Tokens()
    check(tokens, trl_dpo(tokens, "sigmoid", beta)[0], name="dpo", beta=beta)
    check(tokens, trl_dpo(tokens, "sigmoid", beta)[0], name="sdpo", beta=beta)


def test_reward_metrics() -> None:
    tokens = Tokens()
    theirs = {name: values[0] for name, values in trl_dpo(tokens, "sigmoid", 0.5)[1].items()}
    ours = {name: value.mean().item() for name, value in apply(tokens.batch, name="dpo", beta=0.5).metrics.items()}
    assert ours["reward_pos"] == pytest.approx(theirs["rewards/chosen"])
    assert ours["reward_neg"] == pytest.approx(theirs["rewards/rejected"])
    assert ours["reward_margin"] == pytest.approx(theirs["rewards/margins"])
    assert ours["pair_accuracy"] == pytest.approx(theirs["rewards/accuracies"])
    assert 0 < ours["pair_accuracy"] < 1


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_ipo(tau: float) -> None:
    tokens = Tokens()
    check(tokens, trl_dpo(tokens, "ipo", tau)[0], name="ipo", tau=tau, length_normalised=True)
    one = Tokens(lengths=torch.ones(2 * B, dtype=torch.long))
    check(one, trl_dpo(one, "ipo", tau)[0], name="ipo", tau=tau)


def test_ipo_without_reference() -> None:
    """TRL's CPO trainer has IPO of plain log-probs; it is ours against a reference that finds all titles alike."""
    tokens = Tokens()
    tokens.ref = torch.zeros_like(tokens.ref)
    check(tokens, trl_cpo(tokens, "ipo", beta=0.2), name="ipo", tau=0.2)


def test_rosepo_is_label_smoothing() -> None:
    tokens = Tokens()
    tokens.ref = torch.zeros_like(tokens.ref)
    theirs = trl_cpo(tokens, "sigmoid", beta=0.4, label_smoothing=0.2)
    check(tokens, theirs, name="rosepo", beta=0.4, epsilon=0.2)


def test_robust_is_another_estimate() -> None:
    """With C the loss and F the loss of flipped labels, TRL's rDPO is R = ((1 - e) C - e F) / (1 - 2e), and RosePO is
    (1 - e) C + e F. So from TRL's C and R: F = ((1 - e) C - (1 - 2e) R) / e.
    """
    tokens, e = Tokens(), 0.2
    robust = trl_dpo(tokens, "robust", 0.4, label_smoothing=e)[0]
    clean = trl_dpo(tokens, "sigmoid", 0.4)[0]
    flipped = ((1 - e) * clean - (1 - 2 * e) * robust) / e
    check(tokens, (1 - e) * clean + e * flipped, name="rosepo", beta=0.4, epsilon=e)
    assert not torch.allclose(apply(tokens.batch, name="rosepo", beta=0.4, epsilon=e).losses.mean(), robust)


@pytest.mark.parametrize(("beta", "gamma0"), [(1.0, 2.0), (2.5, 1.5), (0.1, 0.0)])
def test_simpo(beta: float, gamma0: float) -> None:
    tokens = Tokens()
    theirs = trl_cpo(tokens, "simpo", beta=beta, simpo_gamma=gamma0)
    check(tokens, theirs, name="simpo", beta=beta, gamma0=gamma0)


def test_cpo() -> None:
    """The preference term on titles of all lengths; with the likelihood term, on titles of one length."""
    tokens = Tokens()
    check(tokens, trl_cpo(tokens, "sigmoid", beta=0.3), name="cpo", beta=0.3, c_nll=0.0)
    even = Tokens(lengths=torch.full((2 * B,), 5))
    check(even, trl_cpo(even, "sigmoid", beta=0.3, cpo_alpha=0.7), name="cpo", beta=0.3, c_nll=0.7)


def test_sigmoid_dpo_of_several_negatives() -> None:
    """K pairs of one user are K pairs of TRL: the mean over pairs of the mean over users."""
    first, second = Tokens(0), Tokens(1)
    one, two = first.batch, second.batch
    assert one.ref_logps_pos is not None
    assert one.ref_logps_neg is not None
    assert two.ref_logps_neg is not None
    both = PreferenceBatch(
        one.policy_logps_pos,
        torch.cat((one.policy_logps_neg, two.policy_logps_neg), dim=1),
        one.tokens_pos,
        torch.cat((one.tokens_neg, two.tokens_neg), dim=1),
        one.ref_logps_pos,
        torch.cat((one.ref_logps_neg, two.ref_logps_neg), dim=1),
    )
    crossed = Tokens(0)
    crossed.logps = torch.cat((first.logps[:B], second.logps[B:])).detach()
    crossed.ref = torch.cat((first.ref[:B], second.ref[B:]))
    crossed.mask = torch.cat((first.mask[:B], second.mask[B:]))
    theirs = (trl_dpo(first, "sigmoid", 0.5)[0] + trl_dpo(crossed, "sigmoid", 0.5)[0]) / 2
    torch.testing.assert_close(apply(both, name="dpo", beta=0.5).losses.mean(), theirs)
