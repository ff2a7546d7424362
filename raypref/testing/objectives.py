"""The contract of an objective: what the training loop, its engines and resume rely on.

One check a promise; each says in a sentence what is broken. Batches are small (6 examples, K = 3) and in float64, but
for the numbers at the ends of the line, which come in the types that training has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from raypref.config.objectives import Objective as ObjectiveParams
from raypref.errors import UserError
from raypref.objectives import COLUMNS, Objective, ObjectiveOutput, PreferenceBatch, State
from raypref.testing.batches import changed, gradients, random_batch, rows, with_logps
from raypref.testing.contract import require
from raypref.testing.differences import agree, finite_differences, held_fixed

EXAMPLES, NEGATIVES = 6, 3
EXTREME = 1e4
"""Nats; a title of a hundred tokens that a model finds impossible."""
DRAWS, SIGMAS = 200, 5.0
"""A loss that draws at random is compared by its mean over so many steps, to so many standard errors."""


def check_objective(
    function: Objective,
    params: ObjectiveParams | Mapping[str, float],
    *,
    reference: bool = True,
    reads: tuple[str, ...] = (),
    whole_batch: bool = False,
    stops_gradient: bool = False,
    draws: bool = False,
) -> None:
    """Check that a function may be used as an objective.

    One loss of at least float32 for each example; detached per-example metrics; the same losses whatever the order of
    negatives and of examples; a gradient that agrees with finite differences; finite numbers for log-probs of -1e4 and
    for a policy that equals its reference; nothing written but `state`; the same again from the same state; and, unless
    it asks for the whole batch, the same loss whichever micro-batch an example is in.

    Args:
        function: `(batch, params, state)` to `ObjectiveOutput`.
        params: Hyper-parameters: of raypref's own classes, which declare all that follows themselves; or numbers by
            name, which the function gets as attributes.
        reference: Whether it reads the reference's log-probs.
        reads: Further columns that it reads.
        whole_batch: Whether an example's loss depends on the others of the optimizer batch.
        stops_gradient: Whether something follows the log-probs without being differentiated, by `Tensor.detach`: finite
            differences then hold it fixed.
        draws: Whether it draws at random, seeded from `state`: orders are then compared over the mean of 200 steps.

    Raises:
        ContractError: it breaks a promise; the message names each.
        UserError: `reads` names a column that there is not.
    """
    if isinstance(params, ObjectiveParams):
        reference, reads, whole_batch = params.uses_reference, params.columns, params.scope == "batch"
        stops_gradient, draws = params.stops_gradient, params.draws
    for name in reads:
        if name not in COLUMNS:
            raise UserError(f"there is no column '{name}'", where="reads", hint="columns: " + ", ".join(COLUMNS))
    given = SimpleNamespace(**params) if isinstance(params, Mapping) else params
    trial = _Trial(function, given, reference, reads, whole_batch, stops_gradient, draws)
    name = getattr(function, "__name__", type(function).__name__)
    checks = (_negatives_in_any_order, _examples_in_any_order, _gradient, _stability, _writes_state_alone, _splits)
    first = list(_shapes(trial))
    require(name, first or (fault for check in checks for fault in check(trial)))


@dataclass(frozen=True)
class _Trial:
    function: Objective
    params: Any
    reference: bool
    reads: tuple[str, ...]
    whole_batch: bool
    stops_gradient: bool
    draws: bool

    def batch(self, k: int = NEGATIVES, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreferenceBatch:
        """A batch with what the objective declares, and nothing else; log-probs are of events, below 0."""
        drawn = random_batch(EXAMPLES, k, seed=seed, dtype=dtype)
        drawn = changed(drawn, lambda name, value: value.clamp_max(-0.01) if "logps" in name else value)
        columns = {name: drawn.columns[name] for name in self.reads}
        if self.reference:
            return replace(drawn, columns=columns)
        return replace(drawn, columns=columns, ref_logps_pos=None, ref_logps_neg=None)

    def __call__(self, batch: PreferenceBatch, state: State | None = None) -> ObjectiveOutput:
        return self.function(batch, self.params, {} if state is None else state)

    def state(self) -> State:
        """The state after a first step, on another batch."""
        state: State = {}
        self(self.batch(seed=1), state)
        return state


def _shapes(trial: _Trial) -> Iterator[str]:
    for k in (NEGATIVES, 1):
        for dtype in (torch.float64, torch.bfloat16):
            batch = trial.batch(k, dtype=dtype)
            state: State = {}
            at = f"for B = {EXAMPLES}, K = {k}, {dtype}"
            try:
                output = trial(batch, state)
            except Exception as error:  # whatever an author's code raises is a fault to tell
                yield f"{at} it raises {type(error).__name__}: {error}{_hint(error)}"
                continue
            if not isinstance(output, tuple) or len(output) != 2:
                yield f"{at} it returns {type(output).__name__}, not ObjectiveOutput(losses, metrics)"
                continue
            yield from (f"{at} {fault}" for fault in _output_faults(ObjectiveOutput(*output), dtype))
            for name, value in state.items():
                if not isinstance(value, Tensor) or value.requires_grad:
                    yield f"state['{name}'] is no detached tensor: checkpoints can't keep it"


def _hint(error: Exception) -> str:
    if isinstance(error, UserError) and "column" in error.what:
        return " (declare it: reads=(...,))"
    return " (reference=False is declared)" if isinstance(error, UserError) and "reference" in error.what else ""


def _output_faults(output: ObjectiveOutput, dtype: torch.dtype) -> Iterator[str]:
    losses, metrics = output
    if tuple(losses.shape) != (EXAMPLES,):
        yield f"the losses have shape {tuple(losses.shape)}: give one for each example, ({EXAMPLES},), not their mean"
    if not losses.is_floating_point() or losses.element_size() < 4:
        yield f"the losses are {losses.dtype}: reduce in float32 or more, as raypref.objectives.rewards does"
    if not losses.requires_grad:
        yield "the losses carry no gradient: they don't depend on the policy's log-probs, or these were detached"
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or tuple(value.shape) != (EXAMPLES,):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            yield f"metric '{name}' is {shape}: give one value for each example, ({EXAMPLES},)"
        elif value.requires_grad:
            yield f"metric '{name}' carries a gradient: detach it, or each step's graph stays in memory"
        elif not value.isfinite().all():
            yield f"metric '{name}' is not finite for ordinary log-probs ({dtype}; a random negative's rating is NaN)"
    if not losses.isfinite().all():
        yield "the losses are not finite for ordinary log-probs (a random negative's rating and latency are NaN)"


def _negatives_in_any_order(trial: _Trial) -> Iterator[str]:
    def turn(name: str, value: Tensor) -> Tensor:
        return value.flip(1) if name.endswith("_neg") else value

    if moved := _moved(trial, changed(trial.batch(), turn), slice(None)):
        yield f"the order of an example's negatives changes {moved}: treat all K alike, by a mean, sum or maximum"


def _examples_in_any_order(trial: _Trial) -> Iterator[str]:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    if moved := _moved(trial, rows(trial.batch(), order), order):
        yield f"the order of the batch's examples changes {moved}: workers and epochs order them otherwise"


def _moved(trial: _Trial, other: PreferenceBatch, order: Any) -> str:
    """What differs between a batch and its reordering, empty where nothing does."""
    if trial.draws:
        states = trial.state(), trial.state()
        pairs = [(trial(trial.batch(), states[0]), trial(other, states[1])) for _ in range(DRAWS)]
        apart = torch.stack([theirs.losses - ours.losses[order] for ours, theirs in pairs]).detach()
        allowed = SIGMAS * apart.std(dim=0) / DRAWS**0.5 + 1e-9
        return "the mean loss over many steps" if (apart.mean(dim=0).abs() > allowed).any() else ""
    ours, theirs = trial(trial.batch(), trial.state()), trial(other, trial.state())
    if not torch.allclose(ours.losses[order], theirs.losses, rtol=1e-9, atol=1e-12):
        return f"its loss (by up to {(ours.losses[order] - theirs.losses).detach().abs().max():.2g})"
    for name, value in ours.metrics.items():
        if not torch.allclose(value[order], theirs.metrics[name], rtol=1e-6, atol=1e-9):
            return f"the metric '{name}'"
    return ""


def _gradient(trial: _Trial) -> Iterator[str]:
    batch, state = trial.batch(), trial.state()

    def loss(pos: Tensor, neg: Tensor) -> Tensor:
        return trial(with_logps(batch, pos, neg), dict(state)).losses.mean()

    ours = gradients(batch, trial(batch, dict(state)).losses)
    if not any(side.abs().max() > 1e-9 for side in ours):
        yield "no gradient reaches the policy's log-probs: nothing would be learned"
    fixed = agree(ours, finite_differences(held_fixed(loss, batch), batch))
    if fixed and (trial.stops_gradient or agree(ours, finite_differences(loss, batch))):
        return
    if fixed:
        yield (
            "the gradient is that of the loss with its detached values held fixed: if that is meant, declare it "
            "(stops_gradient=True); if not, something is detached on the way"
        )
    else:
        apart = max(float((a - b).abs().max()) for a, b in zip(ours, finite_differences(loss, batch)))
        yield f"the gradient differs from finite differences of the loss by up to {apart:.2g}"


def _stability(trial: _Trial) -> Iterator[str]:
    signs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [0, 1], [1, 0]])  # which of policy and reference is extreme
    for dtype in (torch.float32, torch.bfloat16):
        base = trial.batch(dtype=dtype)
        low, high = torch.tensor(-EXTREME, dtype=dtype), torch.tensor(-0.01, dtype=dtype)
        pos = torch.where(signs[:, 0].bool(), low, high)
        neg = torch.where(torch.tensor([0, 1, 1]).bool() ^ signs[:, 1:].bool(), low, high)
        far = with_logps(base, pos.requires_grad_(), neg.requires_grad_())
        cases = {f"log-probs of -{EXTREME:.0e} and nearly 0": far}
        if trial.reference:
            same = replace(base, ref_logps_pos=pos.detach(), ref_logps_neg=neg.detach())
            cases["a reference's log-probs of the same size"] = same
            equal = replace(base, ref_logps_pos=base.policy_logps_pos.detach())
            equal = replace(equal, ref_logps_neg=base.policy_logps_neg.detach())
            cases["a policy that equals its reference, as at the first step"] = equal
        for what, batch in cases.items():
            state: State = {}
            for _ in range(2):
                output = trial(batch, state)
                values = {"the loss": [output.losses], "the gradient": gradients(batch, output.losses)}
                values |= {f"metric '{name}'": [value] for name, value in output.metrics.items()}
                values |= {f"state['{name}']": [value] for name, value in state.items()}
                for name, tensors in values.items():
                    if not all(tensor.isfinite().all() for tensor in tensors):
                        yield f"{name} is not finite for {what} ({dtype}): use logsigmoid, logsumexp, softplus ..."


def _writes_state_alone(trial: _Trial) -> Iterator[str]:
    batch, state = trial.batch(), trial.state()
    before = changed(batch, lambda name, value: value.clone())
    copies = [{name: value.clone() for name, value in state.items()} for _ in range(2)]
    first = trial(batch, copies[0])
    for where, ours, theirs in (("batch", vars(batch), vars(before)), ("columns", batch.columns, before.columns)):
        for name, value in ours.items():
            if isinstance(value, Tensor) and not torch.equal(value.nan_to_num(-1), theirs[name].nan_to_num(-1)):
                yield f"it writes into the {where}' {name}: make a new tensor instead"
    second = trial(changed(before, lambda name, value: value), copies[1])
    if not torch.equal(first.losses, second.losses):
        yield "twice the same batch and state give two losses: keep what varies in `state`, seeds of draws too"
    if copies[0].keys() != copies[1].keys() or any(not torch.equal(copies[0][n], copies[1][n]) for n in copies[0]):
        yield "twice the same batch and state leave two states: a resumed run would differ from an unbroken one"


def _splits(trial: _Trial) -> Iterator[str]:
    if trial.whole_batch:
        return
    batch, state = trial.batch(), trial.state()
    whole = trial(batch, dict(state)).losses
    for size in (1, 2, 4):
        parts = [slice(i, i + size) for i in range(0, EXAMPLES, size)]
        split = torch.cat([trial(rows(batch, part), dict(state)).losses for part in parts])
        if not torch.allclose(whole, split, rtol=1e-9, atol=1e-12):
            apart = float((whole - split).detach().abs().max())
            yield (
                f"in micro-batches of {size} the losses differ by up to {apart:.2g} from those of the batch: an "
                "example's loss depends on the others; declare it (whole_batch=True), or let it not"
            )
            return
