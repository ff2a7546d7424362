"""The global batch of an optimizer step, for objectives whose `scope` is "batch".

How one step works, with W workers and gradient accumulation (as GradCache does, so that memory stays that of one
micro-batch while the loss sees all examples):

1. Each worker computes the log-probs of all its micro-batches without a graph, and makes them leaves.
2. `global_batch` gathers them, and every worker evaluates the same loss L over the same global batch: no communication
   inside the objective, and the same `state` everywhere.
3. `L.mean().backward()` leaves in the leaves dL/d(own log-probs).
4. Each micro-batch is run again with a graph, and `torch.autograd.backward(logps, grad_of_those_logps)` replays its
   share into the parameters.

Each example's log-probs reach the parameters on one worker only, so the gradient of L is the SUM over workers of what
step 4 leaves. Engines that average over workers (DDP, DeepSpeed) need the replayed gradient multiplied by W.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from raypref.objectives.batch import PreferenceBatch


class _AllGather(torch.autograd.Function):
    """Rows of all workers, by rank. Backward takes this worker's rows of the incoming gradient, and nothing else.

    The usual backward of an all-gather sums the gradients of all workers, since each has a loss of its own. Here every
    worker holds the same complete loss, so its own rows' gradient is already dL/d(own) in full: a sum would count it
    W times.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, sizes: list[int]) -> Tensor:
        rank = dist.get_rank()
        ctx.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        largest = max(sizes)
        padded = local.new_zeros((largest, *local.shape[1:]))  # all_gather wants equal shapes; the last batch may not
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.rows], None


def gather_rows(local: Tensor, sizes: list[int]) -> Tensor:
    """Tensors (B_w, ...) of all workers as one (sum B_w, ...), rows ordered by rank; differentiable, see above."""
    gathered: Tensor = _AllGather.apply(local, sizes)  # type: ignore[no-untyped-call]
    return gathered


def global_batch(batch: PreferenceBatch) -> PreferenceBatch:
    """This worker's batch (B_w examples) to that of all workers (B = sum B_w), rows ordered by rank.

    Every tensor is gathered; gradients flow back to this worker's own log-probs, once. Workers may hold different
    numbers of examples, but the same K and the same columns. Without torch.distributed it is the batch itself.
    """
    if not dist.is_available() or not dist.is_initialized():
        return batch
    own = torch.tensor([len(batch.policy_logps_pos)], device=batch.policy_logps_pos.device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    gathered = {name: gather_rows(value, sizes) for name, value in tensors.items()}
    columns = {name: gather_rows(batch.columns[name], sizes) for name in sorted(batch.columns)}
    return replace(batch, **gathered, columns=columns)
