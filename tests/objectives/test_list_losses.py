"""MPPO, DynamicPO and the exact policy gradient: numbers by hand, identities, and what sampling would give."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer
from raypref.objectives import PreferenceBatch
from raypref.objectives.boundary import boundary_betas, boundary_negatives, top_cluster
from tests.objectives.test_golden_losses import hand_batch, loss, near
from tests.support.objective_batches import apply, gradients, random_batch, with_logps


def test_mppo() -> None:
    """2 e^-1 - e^-1.5 - e^-1.25 = .735759 - .223130 - .286505 = .226124; times beta = 2: softplus(-.452248)."""
    assert loss(hand_batch(), name="mppo", beta=2.0) == near(0.4923743)


def test_dynamicpo() -> None:
    """No negative reaches lp = -2, and two make no three clusters: the likelier one, ld = -3, stands alone.

    g1 = -2 + 3 = 1, g2 = -3 + 5 = 2: beta = 1 + .5 tanh((1 - 2 - 2) / 3) = .619203; gap 1: softplus(-.619203).
    """
    output = apply(hand_batch(), name="dynamicpo")
    assert output.losses.item() == near(0.4307256)
    assert output.metrics["beta"].item() == near(0.6192029)
    assert output.metrics["boundary_negatives"].item() == 1


def test_dynamicpo_over_a_list_and_over_likelihoods() -> None:
    """ld = (-1, -1.5) both reach lp = -2, and are their own others: mean -1.25, g1 = (-1, -.5), g2 = (.25, -.25).

    beta = 1 + .5 tanh(-3.25 / 1.25, -2.25 / .75) = (.505487, .502472); gaps hp - hd = 1 - (2, 2.5) = (-1, -1.5):
    ln(1 + e^.505487 + e^.753708). Likelihoods: e^-1 - (e^-.5, e^-.375) = (-.238651, -.319410): softplus of
    .505487 x .238651 + .502472 x .319410 = .281130.
    """
    batch = with_logps(hand_batch(), torch.tensor([-2.0]).double(), torch.tensor([[-1.0, -1.5]]).double())
    assert loss(batch, name="dynamicpo", base="sdpo") == near(np.log(1 + np.exp(0.5054872) + np.exp(1.5 * 0.5024726)))
    assert loss(batch, name="dynamicpo", base="mppo") == near(np.log1p(np.exp(0.2811304)))


def test_list_pg() -> None:
    """softmax(-2, -3, -5) = (1, e^-1, e^-3) / 1.417666 = (.705385, .259496, .035119)."""
    batch = hand_batch()
    assert loss(batch, name="list-pg") == near(-0.7053846)
    assert loss(batch, name="list-pg", over="all") == near(-np.exp(-2))
    assert loss(batch, name="list-pg", advantage="standardised") == near(-0.7053846 / (0.7053846 * 0.2946154) ** 0.5)


def test_list_pg_divergence() -> None:
    """pi_ref = softmax(-3, -3, -4) = (.422319, .422319, .155362).

    .705385 ln(.705385 / .422319) + .259496 ln(.259496 / .422319) + .035119 ln(.035119 / .155362) = .183248.
    """
    assert loss(hand_batch(), name="list-pg", beta_kl=2.0) == near(-0.7053846 + 2 * 0.1832481)


def test_list_pg_rewards() -> None:
    """By hand: 5 / 1 and (2 / 4^.5, 3 / 11^.5); the expert's 2, 1, 2 have ranks 1.5, 3, 1.5."""
    pi = torch.tensor([0.7053846, 0.2594965, 0.0351191])
    columns = {"rating_pos": [5.0], "latency_pos": [1.0], "rating_neg": [[2.0, np.nan]], "latency_neg": [[4, np.nan]]}
    utilities = torch.tensor([5.0, 1.0, 3 / 11**0.5])
    assert loss(hand_batch(**columns), name="list-pg", reward="utility") == near(-float(pi @ utilities))
    scores = hand_batch(expert_score_pos=[2.0], expert_score_neg=[[1.0, 2.0]])
    assert loss(scores, name="list-pg", reward="expert") == near(-float(pi @ torch.tensor([2.0, 1.0, 2.0])))
    discounts = 1 / torch.log2(1 + torch.tensor([1.5, 3.0, 1.5]))
    assert loss(scores, name="list-pg", reward="expert-rank") == near(-float(pi @ discounts))


def test_a_constant_reward_has_no_gradient_over_the_list() -> None:
    batch = random_batch(4, 3, seed=1)
    alike = {"expert_score_pos": torch.ones(4), "expert_score_neg": torch.ones(4, 3)}
    batch = replace(batch, columns=batch.columns | alike)
    for side in gradients(batch, apply(batch, name="list-pg", reward="expert").losses):
        assert side.abs().max() < 1e-12
    everything = gradients(batch, apply(batch, name="list-pg", reward="expert", over="all").losses)
    assert everything[0].abs().max() > 0, "among all answers a constant reward asks for a valid one"


def test_a_one_hot_reward_has_the_gradient_of_minus_the_target_share() -> None:
    batch = random_batch(4, 3, seed=1)
    own = torch.cat((batch.policy_logps_pos[:, None], batch.policy_logps_neg), dim=1)
    leaves = batch.policy_logps_pos, batch.policy_logps_neg
    for over, share in (("list", own.softmax(dim=1)[:, 0]), ("all", own[:, 0].exp())):
        expected = torch.autograd.grad(-share.mean(), leaves, retain_graph=True, allow_unused=True)
        found = gradients(batch, apply(batch, name="list-pg", over=over).losses)
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs)


def test_mppo_reads_no_reference() -> None:
    batch = random_batch(4, 3, seed=1)
    moved = replace(batch, ref_logps_pos=torch.zeros(4), ref_logps_neg=torch.ones(4, 3))
    assert torch.equal(apply(batch, name="mppo").losses, apply(moved, name="mppo").losses)


def test_dynamicpo_of_negatives_that_are_all_near_and_alike_is_dmpo() -> None:
    """All reach the preferred title and are equal, so each has the same beta: DMPO with that beta."""
    batch = random_batch(4, 3, seed=1)
    same = (batch.policy_logps_pos.detach()[:, None] + 1).expand(4, 3).clone().requires_grad_()
    batch = with_logps(batch, batch.policy_logps_pos, same)
    output = apply(batch, name="dynamicpo")
    assert (output.metrics["boundary_negatives"] == 3).all()
    beta = output.metrics["beta"][0].item()
    assert beta == pytest.approx(1 + 0.5 * np.tanh(-3 / 1))  # g1 = -1, g2 = 0
    torch.testing.assert_close(output.losses, apply(batch, name="dmpo", beta=beta).losses)


def divided(values: np.ndarray) -> float:
    """The least value of the highest of the three clusters of least squared distance, by trying every labelling."""
    best, found = np.inf, np.nan
    for labels in itertools.product(range(3), repeat=len(values)):
        groups = [values[np.array(labels) == i] for i in range(3)]
        if all(len(group) for group in groups):
            cost = sum(((group - group.mean()) ** 2).sum() for group in groups)
            if cost < best - 1e-9:
                best, found = cost, max(groups, key=np.mean).min()
    return float(found)


def test_the_top_cluster_is_the_optimum_of_all_labellings() -> None:
    drawn = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 6)) * 3)
    expected = [divided(row) for row in drawn.numpy()]
    np.testing.assert_allclose(top_cluster(drawn).numpy(), expected)


def test_boundary_where_clusters_are_not_defined() -> None:
    """One and two negatives, and three that are equal; never an empty boundary, never NaN."""
    assert boundary_negatives(torch.zeros(1), torch.tensor([[-3.0]])).tolist() == [[True]]
    assert boundary_negatives(torch.zeros(1), torch.tensor([[-3.0, -4.0]])).tolist() == [[True, False]]
    alike = torch.full((1, 3), -3.0)
    assert boundary_negatives(torch.zeros(1), alike).all()
    betas = boundary_betas(torch.full((1,), -3.0), alike, torch.ones(1, 3, dtype=torch.bool), 2.0)
    assert betas.tolist() == [[1.0, 1.0, 1.0]]  # both gaps are 0: the least beta


def small_model() -> tuple[TitleScorer, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, attn_implementation="sdpa",
    )  # fmt: skip
    titles = [[[5 + c, 6 + c, 2] for c in range(6)], [[20 + c, 2] for c in range(6)]]
    return TitleScorer(LlamaForCausalLM(config)), title_batch([[1, 7, 8, 9], [1, 11, 12]], titles, 0)


@pytest.mark.parametrize(("over", "answers"), [("list", 100_000), ("all", 100_000_000)])
def test_the_gradient_is_that_of_sampled_answers(over: str, answers: int) -> None:
    """REINFORCE on a Llama of two layers: answers drawn from the model's own distribution, each with its advantage.

    Among all answers the list's are rare, so more are drawn; how often each was is all that the estimator asks.
    """
    scorer, batch = small_model()
    weights = list(scorer.parameters())
    logps = scorer(batch)
    reward = torch.linspace(1, 0, 6)
    scores = {"expert_score_pos": reward[:1].expand(2), "expert_score_neg": reward[1:].expand(2, 5)}
    tokens = batch.lengths[:, 0], batch.lengths[:, 1:]
    preference = PreferenceBatch(logps[:, 0], logps[:, 1:], *tokens, columns=scores)
    exact_loss = apply(preference, name="list-pg", reward="expert", over=over).losses.sum()
    exact = flat(torch.autograd.grad(exact_loss, weights, retain_graph=True, allow_unused=True), weights)
    draw = np.random.default_rng(1)
    sampled = torch.zeros_like(exact)
    for row in logps:
        log_pi = row.log_softmax(dim=0) if over == "list" else row
        pi = log_pi.detach().exp()
        outcomes = np.append(pi.double(), max(0.0, 1 - float(pi.double().sum())))
        counts = draw.multinomial(answers, outcomes / outcomes.sum())[:6]
        share = torch.from_numpy(counts / answers).float()
        baseline = (pi * reward).sum() if over == "list" else 0.0  # of an answer outside nothing is sampled but 0
        surrogate = -(share * (reward - baseline) * log_pi).sum()
        sampled += flat(torch.autograd.grad(surrogate, weights, retain_graph=True, allow_unused=True), weights)
    assert torch.cosine_similarity(exact, sampled, dim=0) > 0.999


def flat(found: Any, weights: list[Tensor]) -> Tensor:
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(found, weights)])
