"""What a GPU needs of a step, as far as a CPU can tell: the host never waits for the device between forward and update,
batches are moved once and out of pinned memory, sums are float32 under autocast, compiled is what eager is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from raypref.config.model import LoraConfig
from raypref.models import attention, backbone
from raypref.models.layout import Rows, title_batch
from raypref.models.scoring import TitleScorer
from raypref.training.batches import Collator
from raypref.training.loop import compute_gradients
from raypref.training.micro import MicroBatches
from raypref.training.tasks import task_of
from tests.support.training_runs import MODEL, PAD, RESOURCES, SFT, TOKENIZER, Job, align, engine_for, make_table, with_

READS = ("cpu", "tolist", "numpy", "__array__")
"""Methods that bring a tensor's content to the host; a CPU's tensors come without an operator that could be seen."""
CONTENT = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")
"""Operators whose result, or its size, the host has to read: item, float, int, bool, boolean indices ..."""
SUMS = ("_log_softmax", "logsumexp", "index_add", "linalg_vector_norm", "_foreach_norm")
"""Long sums of ours; those inside of products and of their gradients are autocast's."""


class Watched(TorchDispatchMode):
    """Lists what would make the host wait, and the types of what is summed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.summed: set[tuple[str, torch.dtype]] = set()
        for name in READS:
            patch.setattr(Tensor, name, self._told(name, getattr(Tensor, name)))

    def _told(self, name: str, method: Any) -> Any:
        def told(*args: Any, **kwargs: Any) -> Any:
            self.waits.append(name)
            return method(*args, **kwargs)

        return told

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name == "index" else ()
        if name in CONTENT or any(i is not None and i.dtype == torch.bool for i in indices):
            self.waits.append(name)
        if name in SUMS:
            self.summed |= {(name, t.dtype) for t in tree_iter(args) if isinstance(t, Tensor) and t.is_floating_point()}
        return func(*args, **(kwargs or {}))


def step(
    objective: str, watched: Watched, allowed: tuple[str, ...] = (), bfloat16: bool = False, lora: bool = False
) -> None:
    """A step as the training loop makes it, watched from its first forward pass to the end of the update."""
    config = SFT if objective == "sft" else align(objective)
    resources = with_(RESOURCES, micro_batch=3, precision="bfloat16" if bfloat16 else "float32")
    engine: Any = engine_for(Job(config, resources, lora=LoraConfig(rank=4) if lora else None))
    task = task_of(config)
    collator = Collator(task.negatives, 0, PAD, engine.scorer.rows())
    score, began = engine.score, []

    def first(batch: Any) -> Tensor:
        if not began:
            watched.waits.clear()
            began.append(True)
        scored: Tensor = score(batch)
        return scored

    engine.score = first
    engine.train(True)
    with watched:
        sums = compute_gradients(engine, task, make_table(8), 0, collator, MicroBatches(3), 0)
        norm = engine.step(1e-3)
    waited = list(watched.waits)
    assert np.isfinite([sums.means()["loss"], float(norm)]).all()
    assert began
    assert waited == [*allowed]


@pytest.mark.parametrize("objective", ["sft", "recpo", "napo", "beta-dpo"])
def test_the_host_does_not_wait_within_a_step(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By example and by the whole batch. beta-dpo reads how often it has drawn, once a step, for its next seed."""
    step(objective, Watched(monkeypatch), ("_local_scalar_dense",) if objective == "beta-dpo" else ())


def test_a_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(4.0)
    waits: list[Any] = [
        lambda: float(values.sum()), lambda: values.max().item(), lambda: values[values > 1], lambda: bool(values[0]),
        lambda: values.cpu(), lambda: values.tolist(), lambda: values.numpy(), lambda: torch.nonzero(values),
    ]  # fmt: skip
    watched = Watched(monkeypatch)
    with watched:
        for number, wait in enumerate(waits, 1):
            wait()
            assert len(watched.waits) >= number, number
            del watched.waits[number:]


@pytest.mark.parametrize("lora", [False, True])
def test_sums_are_float32_under_bfloat16(lora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits to log-probs, log-probs of a title's tokens, those of an example's titles, the gradient's norm."""
    monkeypatch.setattr(attention, "rounds_by_place", lambda value: False)  # as on a GPU
    watched = Watched(monkeypatch)
    step("sdpo", watched, bfloat16=True, lora=lora)
    assert {"index_add", "logsumexp"} <= {name for name, _ in watched.summed}
    assert [(name, dtype) for name, dtype in watched.summed if dtype not in (torch.float32, torch.float64)] == []


def test_a_batch_is_moved_once_out_of_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the device `meta`, as there is no other; its tensors say from where and how they were asked for."""
    pinned: list[int] = []
    moved: list[tuple[int, bool]] = []
    to = Tensor.to

    def pin(self: Tensor) -> Tensor:
        pinned.append(id(self))
        return self

    def told(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        moved.append((id(self), kwargs.get("non_blocking", False)))
        return to(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", told)
    batch = Collator(3, 0, PAD, Rows(packed=True))(make_table(4), 0)
    tensors = [value for value in vars(batch.titles).values() if isinstance(value, Tensor)]
    tensors += batch.columns.values()
    there = batch.to(torch.device("meta"))
    assert sorted(moved) == sorted((id(value), True) for value in tensors)
    assert sorted(pinned) == sorted(id(value) for value in tensors)
    assert {t.device.type for t in (there.titles.input_ids, *there.columns.values())} == {"meta"}


@pytest.mark.measures
def test_a_compiled_scorer_is_the_eager_one() -> None:
    """Traced by torch.compile with its gradients (aot_eager: what a compiler for the device would be given)."""
    torch._dynamo.reset()
    scorer = TitleScorer(backbone.build(MODEL, TOKENIZER).double())
    batch = title_batch([[3, 4, 5, 6], [7, 8]], [[[9, 10, 1], [11, 1]], [[12, 1], [13, 14, 1]]], PAD, Rows(packed=True))
    gradients, scores = [], []
    for run in (scorer, torch.compile(scorer, backend="aot_eager")):
        scorer.zero_grad()
        found = run(batch)
        (found * torch.arange(1, 5).view(2, 2)).sum().backward()
        scores.append(found.detach())
        gradients.append({name: p.grad.clone() for name, p in scorer.named_parameters() if p.grad is not None})
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-10, atol=1e-10)
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-8, atol=1e-10)
