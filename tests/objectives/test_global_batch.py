"""The batch methods over workers: 1 process x 16 examples = 2 x 8 = 4 x 4, in value, gradient and state.

Each worker also cuts its examples into two micro-batches of a small linear model and replays the gradient into its
parameters, as `gather.py` prescribes; the sum over workers is the gradient of the one process.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from raypref.objectives import PreferenceBatch, global_batch
from tests.support.groups import run_group
from tests.support.objective_batches import VARIANTS, make, random_batch, rows

KEYS = ("napo", "napo per token", "sdpo+ns", "sdpo+ns+margin", "dpo+ns", "alpha-dpo", "beta-dpo", "beta-dpo+margin")
STEPS, EXAMPLES, K, WIDTH = 2, 16, 3, 4


def features() -> Tensor:
    """(16, 1 + K, WIDTH) of every title; a linear model of them shifts its log-prob."""
    return torch.randn((EXAMPLES, 1 + K, WIDTH), generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def score(batch: PreferenceBatch, inputs: Tensor, weight: Tensor) -> PreferenceBatch:
    """The batch with log-probs moved by the model."""
    shift = inputs @ weight
    pos, neg = batch.policy_logps_pos.detach(), batch.policy_logps_neg.detach()
    return replace(batch, policy_logps_pos=pos + shift[:, 0], policy_logps_neg=neg + shift[:, 1:])


def steps(key: str, mine: slice, parts: int) -> dict[str, Any]:
    """Two optimizer steps of one worker that holds the rows `mine` of each batch, in `parts` micro-batches."""
    function, params = make(**VARIANTS[key])
    state: dict[str, Tensor] = {}
    record: dict[str, Any] = {"losses": [], "pos": [], "neg": [], "weight": [], "metrics": []}
    for step in range(STEPS):
        weight = torch.linspace(-0.5, 0.5, WIDTH, dtype=torch.float64).requires_grad_()
        batch, inputs = rows(random_batch(EXAMPLES, K, seed=step), mine), features()[mine]
        with torch.no_grad():
            leaves = score(batch, inputs, weight)
        leaves.policy_logps_pos.requires_grad_()
        leaves.policy_logps_neg.requires_grad_()
        output = function(global_batch(leaves), params, state)
        output.losses.mean().backward()
        pos, neg = leaves.policy_logps_pos.grad, leaves.policy_logps_neg.grad
        assert pos is not None
        assert neg is not None
        size = len(pos) // parts
        for start in range(0, len(pos), size):
            part = slice(start, start + size)
            replayed = score(rows(batch, part), inputs[part], weight)
            torch.autograd.backward((replayed.policy_logps_pos, replayed.policy_logps_neg), (pos[part], neg[part]))
        record["losses"].append(output.losses.detach())
        record["pos"].append(pos)
        record["neg"].append(neg)
        record["weight"].append(weight.grad)
        record["metrics"].append(output.metrics)
    return record | {"state": state}


def work(rank: int, world: int, port: int, cuts: list[int], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    mine = slice(cuts[rank], cuts[rank + 1])
    found: dict[str, Any] = {key: steps(key, mine, parts=2) for key in KEYS}
    halves = rows(random_batch(EXAMPLES, K, dtype=torch.bfloat16), mine)
    found["bf16"] = global_batch(halves).policy_logps_neg.detach()
    torch.save(found, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spread(cuts: list[int], folder: Path) -> list[dict[str, Any]]:
    """What each worker found, worker r holding the rows cuts[r] to cuts[r + 1]."""
    world = len(cuts) - 1
    run_group(work, (world, free_port(), cuts, str(folder)), world)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {key: steps(key, slice(0, EXAMPLES), parts=1) for key in KEYS}


# (0, 6, 16) is the last batch of an epoch, which may not divide evenly
@pytest.mark.parametrize("cuts", [[0, 8, 16], [0, 4, 8, 12, 16], [0, 6, 16]], ids=str)
def test_workers_see_what_one_process_sees(cuts: list[int], alone: dict[str, Any], tmp_path: Path) -> None:
    workers = spread(cuts, tmp_path)

    def equal(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)

    for key in KEYS:
        one = alone[key]
        for worker in workers:
            assert worker[key]["state"].keys() == one["state"].keys()
            for name, value in one["state"].items():
                equal(worker[key]["state"][name], value)
            for step in range(STEPS):
                equal(worker[key]["losses"][step], one["losses"][step])
                for name, value in one["metrics"][step].items():
                    equal(worker[key]["metrics"][step][name], value)
        for step in range(STEPS):
            for side in ("pos", "neg"):
                equal(torch.cat([worker[key][side][step] for worker in workers]), one[side][step])
            equal(torch.stack([worker[key]["weight"][step] for worker in workers]).sum(dim=0), one["weight"][step])
    for worker in workers:
        assert torch.equal(worker["bf16"], random_batch(EXAMPLES, K, dtype=torch.bfloat16).policy_logps_neg.detach())


def test_replay_is_the_gradient_of_the_whole(alone: dict[str, Any]) -> None:
    """The one process above replays, too; here is the same gradient by plain autograd through model and loss."""
    for key in KEYS:
        function, params = make(**VARIANTS[key])
        weight = torch.linspace(-0.5, 0.5, WIDTH, dtype=torch.float64).requires_grad_()
        losses = function(score(random_batch(EXAMPLES, K, seed=0), features(), weight), params, {}).losses
        (expected,) = torch.autograd.grad(losses.mean(), weight)
        torch.testing.assert_close(alone[key]["weight"][0], expected)
        assert expected.abs().max() > 1e-3


def test_without_torch_distributed_it_is_the_batch() -> None:
    batch = random_batch()
    assert global_batch(batch) is batch


def test_state_resumes() -> None:
    """A second step from a saved state is the second step of a run that never stopped."""
    for name in ("napo", "alpha-dpo", "beta-dpo"):
        function, params = make(name)
        first, second = random_batch(8, 3, seed=0), random_batch(8, 3, seed=1)
        state: dict[str, Tensor] = {}
        function(first, params, state)
        saved = {key: value.clone() for key, value in state.items()}
        unbroken = function(second, params, state).losses
        assert torch.equal(function(second, params, saved).losses, unbroken)
        assert not torch.equal(function(second, params, {}).losses, unbroken)


def test_the_first_batch_is_its_own_threshold() -> None:
    """So the first margin of napo is gamma0, and the first beta of beta-dpo (unfiltered) is beta."""
    batch = random_batch()
    for key, metric, value in (("napo", "gamma", 1.0), ("beta-dpo unfiltered", "beta", 0.1)):
        function, params = make(**VARIANTS[key])
        torch.testing.assert_close(function(batch, params, {}).metrics[metric], torch.full((6,), value).double())


def test_validation_on_a_copy_leaves_the_state_alone() -> None:
    for name in ("napo", "alpha-dpo", "beta-dpo"):
        function, params = make(name)
        state: dict[str, Tensor] = {}
        function(random_batch(), params, state)
        before = {key: value.clone() for key, value in state.items()}
        function(random_batch(seed=1), params, dict(state))
        assert all(torch.equal(state[key], value) for key, value in before.items())
