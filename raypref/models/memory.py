"""What a training step takes of a worker's memory at its peak, found without weights, data or the time it takes.

The step is run on tensors that have a shape and no content (`FakeTensorMode`), by the same scorer as in training, and
every storage is counted from its first to its last use. So it holds for any model, LoRA or not, with gradient
checkpointing or packing, and needs no formula for any of them. What it can't see: scratch space inside kernels, the
allocator's gaps, and what the process holds besides tensors.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from raypref.config.model import BareModel
from raypref.config.training import ResourceConfig
from raypref.models import backbone
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer

MOMENTS = 8  # bytes a trained weight: Adam's two running means in float32
GRADIENT = 4
HEAP = 1.23
"""What glibc's heap takes for each byte of tensors that come and go: 1.16 measured, with LoRA 1.32. (With
MALLOC_TRIM_THRESHOLD_ set it is 0.93, but each tensor is then new memory, which takes time.)"""


@dataclass(frozen=True)
class Peak:
    """Bytes of one worker."""

    weights: int
    """All weights, trained or not; ZeRO-3's share of them."""
    optimizer: int
    """Adam's moments, and with ZeRO the float32 copy that it updates; from ZeRO-1 on the worker's share."""
    gradients: int
    """Of the trained weights; from ZeRO-2 on the worker's share."""
    activations: int
    """Most that a micro-batch takes beside these, forward and backward."""
    total: int
    """Most that is held at one time, in a backward pass or in the optimizer's step."""


class Live(TorchDispatchMode):
    """Counts the bytes of the storages that operators return, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for value in tree_iter(output):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _onto_cpu(model: nn.Module) -> None:
    """Replace tensors of the meta device, which has no kernels to choose from, by ones that claim to be the CPU's."""
    made: dict[int, Tensor] = {}  # tied weights stay tied
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, old in held.items():
                if old is not None and id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    made[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                if old is not None:
                    held[name] = made[id(old)]  # type: ignore[assignment]


def predict(
    model: BareModel, vocabulary: int, resources: ResourceConfig, prompts: Sequence[int], title: int, titles: int
) -> Peak:
    """The peak of a training step.

    Args:
        vocabulary: tokens that a model made from scratch has; a pretrained one has its own.
        prompts: tokens of each prompt of a micro-batch. title: of each title, end token included. titles: 1 + K.
    """
    world, stage = resources.workers, resources.zero_stage if resources.engine == "deepspeed" else 0
    with torch.device("meta"):
        policy: Any = backbone.skeleton(model, vocabulary).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        _onto_cpu(policy)
        trained = [p for p in policy.parameters() if p.requires_grad]
        weights = sum(p.numel() * p.element_size() for p in policy.parameters())
        count = sum(p.numel() for p in trained)
        scorer = TitleScorer(policy, resources.attention if resources.attention != "flex" else "documents")
        batch = title_batch(
            [[0] * n for n in prompts], [[[0] * title] * titles] * len(prompts), 0, scorer.rows(resources.packing)
        )
        # A GPU's kernels keep as much for the backward pass as the CPU's, which alone can be imitated everywhere.
        half = resources.precision == "bfloat16" or (resources.precision == "auto" and torch.cuda.is_available())
        with Live() as live:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = scorer(batch).sum()
            loss.backward()
            at_end = live.now
    gradients = sum(p.numel() * p.element_size() for p in trained)
    shared = {"weights": world if stage == 3 else 1, "optimizer": world if stage else 1}
    shared["gradients"] = world if stage >= 2 else 1
    held = weights // shared["weights"]
    optimizer = count * (MOMENTS + (GRADIENT if resources.engine == "deepspeed" and stage else 0))
    optimizer //= shared["optimizer"]
    kept = gradients // shared["gradients"]
    # The backward pass counts the gradients that have come so far; the step holds all of them and a square root.
    root = count * GRADIENT if torch.cuda.is_available() else max(p.numel() for p in trained) * GRADIENT
    most = round(live.most * (1.0 if torch.cuda.is_available() else HEAP))
    total = held + optimizer + max(most, kept + root // shared["optimizer"])
    return Peak(held, optimizer, kept, most - min(at_end, gradients), total)
