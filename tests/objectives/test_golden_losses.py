"""Every loss against numbers worked by hand; the arithmetic is in the docstrings.

One example serves all: lp = -2, rp = -3, so hp = 1; ld = (-3, -5), rd = (-3, -4), so hd = (0, -1). Tokens n_p = 2 and
n_d = (2, 4). Gaps of log-ratios hp - hd = (1, 2); of log-probs lp - ld = (1, 3); of log-probs per token (.5, .25).

softplus(x) = ln(1 + e^x) = -log sigmoid(-x): softplus(-.5) = .474077, softplus(-.75) = .386871, softplus(-1) = .313262,
softplus(-1.25) = .251929, softplus(-2) = .126928, softplus(-2.5) = .078890, softplus(-3) = .048587.
e^-.75 = .472367, e^-1 = .367879, e^-2 = .135335, e^-3 = .049787, e^-4 = .018316.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from raypref.config.objective_switches import Z_C
from raypref.objectives import PreferenceBatch
from tests.support.objective_batches import apply, with_logps


def hand_batch(**columns: Any) -> PreferenceBatch:
    def tensor(values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return PreferenceBatch(
        policy_logps_pos=tensor([-2.0]),
        policy_logps_neg=tensor([[-3.0, -5.0]]),
        ref_logps_pos=tensor([-3.0]),
        ref_logps_neg=tensor([[-3.0, -4.0]]),
        tokens_pos=torch.tensor([2]),
        tokens_neg=torch.tensor([[2, 4]]),
        columns={name: tensor(value) for name, value in columns.items()},
    )


def loss(batch: PreferenceBatch, **values: Any) -> float:
    return apply(batch, **values).losses.item()


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-6)


def test_dpo() -> None:
    """(softplus(-1) + softplus(-2)) / 2 = (.313262 + .126928) / 2 = .220095."""
    assert loss(hand_batch(), name="dpo", beta=1.0) == near(0.2200948)


def test_ipo() -> None:
    """1 / (2 tau) = 2: ((1 - 2)^2 + (2 - 2)^2) / 2 = .5."""
    assert loss(hand_batch(), name="ipo", tau=0.25) == near(0.5)


def test_ipo_per_token() -> None:
    """hp / n = .5, hd / n = (0, -.25), gaps (.5, .75): (1.5^2 + 1.25^2) / 2 = (2.25 + 1.5625) / 2 = 1.90625."""
    assert loss(hand_batch(), name="ipo", tau=0.25, length_normalised=True) == near(1.90625)


def test_cpo() -> None:
    """(softplus(-1) + softplus(-3)) / 2 = .180925, and -lp / n_p = 1 twice (c_nll = 2)."""
    assert loss(hand_batch(), name="cpo", beta=1.0, c_nll=2.0) == near(2.1809245)


def test_simpo() -> None:
    """2 (.5, .25) - .5 = (.5, 0): (softplus(-.5) + ln 2) / 2 = (.474077 + .693147) / 2 = .583612."""
    assert loss(hand_batch(), name="simpo", beta=2.0, gamma0=0.5) == near(0.5836121)


def test_rosepo() -> None:
    """DPO's .220095 and eps times the mean logit: -(1-e) ls(z) - e ls(-z) = -ls(z) + e z; .220095 + .1 x 1.5."""
    assert loss(hand_batch(), name="rosepo", beta=1.0, epsilon=0.1) == near(0.3700948)


def test_rosepo_by_expert() -> None:
    """S_p = 2, S = (1, 3): eps = (sigmoid(-1), min(sigmoid(1), .5)) = (.268941, .5).

    (.313262 + .268941 x 1 + .126928 + .5 x 2) / 2 = .854566.
    """
    batch = hand_batch(expert_score_pos=[2], expert_score_neg=[[1, 3]])
    assert loss(batch, name="rosepo", beta=1.0, smoothing="expert") == near(0.8545656)


def test_dmpo() -> None:
    """hp - mean hd = 1 + .5: softplus(-1.5) = .201413."""
    assert loss(hand_batch(), name="dmpo", beta=1.0) == near(0.2014133)


def test_sdpo() -> None:
    """ln(1 + e^-1 + e^-2) = ln 1.503215 = .407606."""
    assert loss(hand_batch(), name="sdpo", beta=1.0) == near(0.4076060)


def test_sims_dpo() -> None:
    """ln(1 + e^-1 + e^-3) = ln 1.417667 = .349012."""
    assert loss(hand_batch(), name="sims-dpo", beta=1.0) == near(0.3490122)


def graded_batch() -> PreferenceBatch:
    """phi_p = 4 / 4^.5 = 2; phi = (4 / 1^.5, 3 / 9^.5) = (4, 1), the second by default: it has no rating, no time."""
    return hand_batch(rating_pos=[4], latency_pos=[4], rating_neg=[[4, torch.nan]], latency_neg=[[1, torch.nan]])


RECPO: dict[str, Any] = {"name": "recpo", "beta": 1.0, "lambda": 0.5, "default_score": 3.0, "default_latency": 9.0}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.6098993),
        ({"margin_sign": "as_printed"}, 0.2898985),
        ({"margin_scope": "summed"}, 1.0139226),
    ],
)
def test_recpo(options: dict[str, Any], expected: float) -> None:
    """m = (2/4, 2/1) = (.5, 2), lambda m = (.25, 1).

    Logits (1 - .25, 2 - 1) = (.75, 1): ln(1 + .472367 + .367879) = .609899.
    As printed (1.25, 3): ln(1 + .286505 + .049787) = .289899.
    Summed, 1.25 off each, (-.25, .75): ln(1 + 1.284025 + .472367) = 1.013923.
    """
    assert loss(graded_batch(), **RECPO, **options) == near(expected)


@pytest.mark.parametrize(("kind", "expected"), [("log_ratio", 0.3726134), ("log_diff", 0.1754319)])
def test_recpo_other_margins(kind: str, expected: float) -> None:
    """phi_p = 2 against phi = (4, 1), lambda = .5, gaps (1, 2).

    log_ratio: m = (ln 2/4, ln 2/1) = (-.693147, .693147), logits (1.346574, 1.653426), e^-z = (.260130, .191393):
    ln 1.451523 = .372613. log_diff: 1 + 2 - 4 < 0 is floored at 1e-6, 1 + 2 - 1 = 2: m = (-13.815511, .693147),
    logits (7.907755, 1.653426), e^-z = (.000368, .191393): ln 1.191761 = .175432.
    """
    assert loss(graded_batch(), **RECPO, margin=kind) == near(expected)


def test_recpo_decay() -> None:
    """alpha = 1: phi_p = 4 / 4 = 1, phi = (4 / 1, 3 / 9) = (4, 1/3), m = (.25, 3), lambda m = (.125, 1.5).

    Logits (.875, .5): ln(1 + .416862 + .606531) = ln 2.023393 = .704776.
    """
    assert loss(graded_batch(), **RECPO, alpha=1.0) == near(0.7047758)


EXPERT: dict[str, Any] = {"expert_score_neg": [[3, 1]], "expert_score_all_neg": [[1, 3, 5]]}
"""w - min w = 5 - S = (2, 4), spread 4: fractions (.5, 1). With z_c / gamma = .5 and U_beta = 1, beta = (.75, 1)."""
BETAS: dict[str, Any] = {"u_beta": 1.0, "gamma": 2 * Z_C}


def test_eapo() -> None:
    """(softplus(-.75 x 1) + softplus(-1 x 2)) / 2 = (.386871 + .126928) / 2 = .256900.

    G = (.75 / (1 + e^.75) + 1 / (1 + e^2)) / 2 = (.240616 + .119203) / 2 = .179909.
    """
    output = apply(hand_batch(**EXPERT), name="eapo", **BETAS)
    assert output.losses.item() == near(0.2568995)
    assert output.metrics["gradient_factor"].item() == near(0.1799094)
    assert output.metrics["beta"].item() == near(0.875)
    assert output.metrics["reward_margin"].item() == near(1.5), "the reward of EAPO is the bare log-ratio"


def test_ea_sdpo() -> None:
    """ln(1 + e^-.75 + e^-2) = ln 1.607702 = .474806."""
    assert loss(hand_batch(**EXPERT), name="ea-sdpo", **BETAS) == near(0.4748057)


def test_ea_ipo() -> None:
    """((.75 - 2)^2 + (2 - 2)^2) / 2 = .78125."""
    assert loss(hand_batch(**EXPERT), name="ea-ipo", tau=0.25, **BETAS) == near(0.78125)


def test_ea_cpo() -> None:
    """Logits (.75 x 1, 1 x 3): (.386871 + .048587) / 2 + 1 = 1.217729."""
    assert loss(hand_batch(**EXPERT), name="ea-cpo", **BETAS) == near(1.2177292)


def test_napo() -> None:
    """Two users, rho = 1: each takes the other's two negatives. lp = (-2, -1), ld = (-3, -5), (-2, -4).

    conf = (.5, .7), (.9, .3), mean .6; R0 = .4: gamma = (1 + .5 x .2) 1 = 1.1, e^1.1 = 3.004166; R0 <- .36 + .06 = .42.
    User 0, ld - lp = (-1, -3, 0, -2): ln(1 + 3.004166 x 1.553001) = 1.734391.
    User 1, ld - lp = (-1, -3, -2, -4): ln(1 + 3.004166 x .571317) = .999283.
    """
    batch = PreferenceBatch(
        policy_logps_pos=torch.tensor([-2.0, -1.0], dtype=torch.float64),
        policy_logps_neg=torch.tensor([[-3.0, -5.0], [-2.0, -4.0]], dtype=torch.float64),
        tokens_pos=torch.tensor([1, 1]),
        tokens_neg=torch.tensor([[1, 1], [1, 1]]),
        columns={
            "expert_confidence_neg": torch.tensor([[0.5, 0.7], [0.9, 0.3]]),
            "sequence_embedding": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        },
    )
    state = {"R0": torch.tensor(0.4, dtype=torch.float64)}
    output = apply(batch, state, name="napo", rho=1.0, alpha=0.5, gamma0=1.0, beta=1.0, momentum=0.9)
    assert output.losses.tolist() == near([1.7343908, 0.9992826])
    assert output.metrics["gamma"].tolist() == near([1.1, 1.1])
    assert state["R0"].item() == near(0.42)


def test_alpha_dpo() -> None:
    """Gaps to the reference (1, 2): mean 1.5, std .5. Carried over, of weight .4: mean .4 x 1, std .4 x .5.

    Weight .9 x .4 + .1 = .46; mean (.9 x .4 + .1 x 1.5) / .46 = .51 / .46 = 1.1086957; std .23 / .46 = .5.
    z = (-.2173913, 1.7826087), gamma = .5 + .25 z = (.4456522, .9456522).
    Log-prob gaps (1, 3) - gamma = (.5543478, 2.0543478): (softplus(-.5543478) + softplus(-2.0543478)) / 2 =
    (.4539040 + .1206025) / 2 = .2872532.
    """
    before = {"gap_mean": 0.4, "gap_std": 0.2, "gap_weight": 0.4}
    state = {name: torch.tensor(value, dtype=torch.float64) for name, value in before.items()}
    output = apply(hand_batch(), state, name="alpha-dpo", beta=1.0, gamma0=0.5, alpha=0.25, length_normalised=False)
    assert output.losses.item() == near(0.2872532)
    assert {name: value.item() for name, value in state.items()} == {
        "gap_mean": near(0.51),
        "gap_std": near(0.23),
        "gap_weight": near(0.46),
    }


def test_alpha_dpo_starts_at_the_reference() -> None:
    """First batch: policy = reference, gaps (0, 0), std 0: z = 0. Second: gaps (1, 2), std .5.

    mean (.09 x 0 + .1 x 1.5) / .19 = .7894737, std .1 x .5 / .19 = .2631579: z = (.8, 4.6), not 10,000 times as much.
    gamma = .5 + .25 z = (.7, 1.65); (softplus(-.3) + softplus(-1.35)) / 2 = (.5543552 + .2305086) / 2 = .3924319.
    """
    values = {"name": "alpha-dpo", "beta": 1.0, "gamma0": 0.5, "alpha": 0.25, "length_normalised": False}
    batch, state = hand_batch(), {}
    at_start = replace(batch, ref_logps_pos=batch.policy_logps_pos, ref_logps_neg=batch.policy_logps_neg)
    first = apply(at_start, state, **values)
    assert first.metrics["gamma"].item() == near(0.5)
    assert apply(batch, state, **values).losses.item() == near(0.3924319)


def test_beta_dpo() -> None:
    """Gaps (1, 2), M = 1.5, M0 = 1: beta = 1 + .5 x .5 = 1.25; (softplus(-1.25) + softplus(-2.5)) / 2 = .165409."""
    state = {"M0": torch.tensor(1.0, dtype=torch.float64), "gap_std": torch.tensor(0.5, dtype=torch.float64)}
    output = apply(hand_batch(), state, name="beta-dpo", beta=1.0, a=0.5, filter_share=0.0)
    assert output.losses.item() == near(0.1654094)
    assert output.metrics["beta"].item() == near(1.25)
    assert state["M0"].item() == near(1.05)


def test_beta_dpo_filter_leaves_the_outlier_out() -> None:
    """Four pairs with gaps (0, .1, -.1, 50), M0 = 0, std = .1: the outlier's log-density is -125,000 and Gumbel noise
    spans tens, so a quarter filtered is the outlier. The mean loss is that of the other three: with a = 0,
    (softplus(0) + softplus(-.1) + softplus(.1)) / 3 = (.693147 + .644397 + .744397) / 3 = .693980.
    """
    pos = torch.tensor([0.0, 0.1, -0.1, 50.0], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    ones = torch.ones(4, 1)
    batch = PreferenceBatch(pos, zeros, ones[:, 0], ones, zeros[:, 0], zeros)
    state = {"M0": torch.tensor(0.0, dtype=torch.float64), "gap_std": torch.tensor(0.1, dtype=torch.float64)}
    output = apply(batch, state, name="beta-dpo", beta=1.0, a=0.0, filter_share=0.25)
    assert output.metrics["kept_pairs"].tolist() == [1, 1, 1, 0]
    assert output.losses.mean().item() == near(0.6939802)
    assert int(state["draws"]) == 1


def test_beta_dpo_has_a_least_beta() -> None:
    """M = 1.5 far below M0 = 100 would make beta = 1 + .5 x -98.5 < 0 and turn the preference; it stops at .001:
    (softplus(-.001) + softplus(-.002)) / 2 = (.692647 + .692148) / 2 = .692397.
    """
    state = {"M0": torch.tensor(100.0, dtype=torch.float64), "gap_std": torch.tensor(0.5, dtype=torch.float64)}
    assert loss_from(state, name="beta-dpo", beta=1.0, a=0.5, filter_share=0.0) == near(0.6923975)


def loss_from(state: dict[str, torch.Tensor], **values: Any) -> float:
    return apply(hand_batch(), state, **values).losses.item()


def test_metrics_of_a_list() -> None:
    """hp = 1 against hd = (0, 3): gaps (1, -2), one pair of two won, the list lost.

    Logits (1, -2): weights softmax(-1, 2) = (.047426, .952574), entropy .047426 x 3.048587 + .952574 x .048587 =
    .190865, so e^.190865 = 1.210296 negatives count.
    """
    batch = hand_batch()
    moved = with_logps(batch, batch.policy_logps_pos, torch.tensor([[-3.0, -1.0]], dtype=torch.float64))
    metrics = {name: value.item() for name, value in apply(moved, name="sdpo", beta=1.0).metrics.items()}
    assert metrics == {
        "reward_pos": near(1),
        "reward_neg": near(1.5),
        "reward_margin": near(-0.5),
        "pair_accuracy": near(0.5),
        "list_accuracy": near(0),
        "effective_negatives": near(1.2102960),
        "beta": near(1),
        "gamma": near(0),
    }
