"""`check_objective` passes for every objective of the package, and tells an author each promise that a loss breaks."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
import torch

from raypref.config.custom_objective import Custom
from raypref.errors import UserError
from raypref.objectives import OBJECTIVES, ObjectiveOutput, PreferenceBatch, State
from raypref.objectives.custom import custom_objective
from raypref.objectives.rewards import log_probs, log_ratios
from raypref.testing import ContractError, check_objective
from tests.support.objective_batches import VARIANTS, make
from tests.support.processes import CHECKOUT

HINGE = CHECKOUT / "docs" / "examples" / "hinge.py"


@pytest.mark.parametrize("key", VARIANTS)
def test_it_passes_for_every_objective(key: str) -> None:
    check_objective(*make(**VARIANTS[key]))


def test_it_passes_for_every_default() -> None:
    for function, cls in OBJECTIVES.values():
        check_objective(function, cls())


def test_it_passes_for_the_docs_example() -> None:
    check_objective(runpy.run_path(str(HINGE))["loss"], {"margin": 1})
    config = Custom(file=HINGE, params={"margin": 1})
    check_objective(custom_objective(config), config)


def gaps(batch: PreferenceBatch) -> torch.Tensor:
    pos, neg = log_ratios(batch)
    return pos[:, None] - neg


def ordered(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    """The first negative counts twice."""
    weights = torch.tensor([2.0] + [1.0] * (batch.policy_logps_neg.shape[1] - 1))
    return ObjectiveOutput((-torch.nn.functional.logsigmoid(gaps(batch)) * weights).mean(dim=1), {})


def batch_mean(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput(torch.nn.functional.softplus(-gaps(batch)).mean(), {})


def centred(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput(torch.nn.functional.softplus(gaps(batch).mean() - gaps(batch)).mean(dim=1), {})


def by_position(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    rank = torch.arange(len(batch.policy_logps_pos)) + 1
    return ObjectiveOutput(torch.nn.functional.softplus(-gaps(batch)).mean(dim=1) * rank, {})


def overflowing(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput((1 + torch.exp(-gaps(batch))).log().mean(dim=1), {})


def half(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    gap = batch.policy_logps_pos[:, None] - batch.policy_logps_neg
    return ObjectiveOutput(torch.nn.functional.softplus(-gap).mean(dim=1), {})


def weighted(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    """A weight that follows the gap, and is not differentiated."""
    return ObjectiveOutput((gaps(batch).detach().sigmoid() * torch.nn.functional.softplus(-gaps(batch))).mean(1), {})


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 0.5 * gradient


def wrong_gradient(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput(torch.nn.functional.softplus(-_Backwards.apply(gaps(batch))).mean(dim=1), {})  # type: ignore[no-untyped-call]


def constant(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput((0 * gaps(batch)).mean(dim=1), {})


def graph_in_metrics(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    losses = torch.nn.functional.softplus(-gaps(batch)).mean(dim=1)
    return ObjectiveOutput(losses, {"loss": losses, "mean": losses.detach().mean()})


def graph_in_state(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    losses = torch.nn.functional.softplus(-gaps(batch)).mean(dim=1)
    state["mean"] = losses.mean()
    return ObjectiveOutput(losses, {})


def in_place(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    batch.columns["rating_neg"].nan_to_num_(3.0)
    return ObjectiveOutput(torch.nn.functional.softplus(-gaps(batch)).mean(dim=1), {})


def noisy(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    return ObjectiveOutput(torch.nn.functional.softplus(-gaps(batch)).mean(dim=1) * torch.rand(()), {})


def rated(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    weight = batch.column("rating_neg")
    return ObjectiveOutput((weight * torch.nn.functional.softplus(-gaps(batch))).mean(dim=1), {})


def dropped(batch: PreferenceBatch, params: Any, state: State) -> ObjectiveOutput:
    """Leaves out a negative at random, the first one more often than the others."""
    draws = state.get("draws", torch.zeros((), dtype=torch.long))
    state["draws"] = draws + 1
    k = batch.policy_logps_neg.shape[1]
    keep = torch.rand(k, generator=torch.Generator().manual_seed(int(draws))) > torch.tensor(
        [params.share] + [0.2] * (k - 1)
    )
    return ObjectiveOutput((keep * torch.nn.functional.softplus(-gaps(batch))).mean(dim=1), {})


PLANTED = [
    (ordered, {}, r"order of an example's negatives changes its loss"),
    (batch_mean, {}, r"losses have shape \(\): give one for each example"),
    (centred, {}, r"micro-batches of 1 the losses differ.*whole_batch=True"),
    (by_position, {"whole_batch": True}, r"order of the batch's examples changes its loss"),
    (overflowing, {}, r"the loss is not finite for log-probs of -1e\+04"),
    (half, {}, r"the losses are torch.bfloat16: reduce in float32"),
    (weighted, {}, r"detached values held fixed.*stops_gradient=True"),
    (wrong_gradient, {}, r"gradient differs from finite differences"),
    (constant, {}, r"nothing would be learned"),
    (graph_in_metrics, {}, r"metric 'loss' carries a gradient: detach it(.|\n)*metric 'mean' is \(\)"),
    (graph_in_state, {}, r"state\['mean'\] is no detached tensor"),
    (in_place, {"reads": ("rating_neg",)}, r"writes into the columns' rating_neg"),
    (noisy, {}, r"twice the same batch and state give two losses"),
    (rated, {}, r"column 'rating_neg'(.|\n)*declare it: reads"),
    (rated, {"reads": ("rating_neg",)}, r"not finite for ordinary log-probs \(a random negative's rating"),
    (lambda batch, params, state: log_ratios(batch)[0], {}, r"returns Tensor, not ObjectiveOutput"),
    (ordered, {"reference": False}, r"no reference log-probs(.|\n)*reference=False is declared"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "declared", "message"), PLANTED, ids=lambda each: getattr(each, "__name__", ""))
def test_it_tells_what_is_wrong(loss: Any, declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_objective(loss, {}, **declared)


def test_what_is_declared_is_no_fault() -> None:
    check_objective(centred, {}, whole_batch=True)
    check_objective(weighted, {}, stops_gradient=True)
    check_objective(
        lambda batch, params, state: ObjectiveOutput(-log_probs(batch)[0] * params.c, {}), {"c": 0.5}, reference=False
    )


def test_a_random_loss_is_judged_by_its_mean() -> None:
    check_objective(dropped, {"share": 0.2}, draws=True)
    with pytest.raises(ContractError, match="negatives changes the mean loss over many steps"):
        check_objective(dropped, {"share": 0.8}, draws=True)


def test_a_column_that_there_is_not() -> None:
    with pytest.raises(UserError, match="there is no column 'ratings'"):
        check_objective(ordered, {}, reads=("ratings",))
