"""What changes how a step is computed, and not what: gradient checkpointing, and bfloat16 autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raypref.models.layout import Rows, TitleBatch, title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import END, PAD, VOCABULARY, gradients, make_model

WORKING = ("llama", "qwen3", "mistral with a window", "gemma")
PROMPTS, TITLES = (4, 23, 11), (12, 2, 1, 30, 7)
OFF_BY = 0.05
"""A share of the norm: bfloat16 rounds each product to 2^-8, and two layers, the head and a sum of up to 30 log-probs
add up some of that."""


def ragged(seed: int) -> TitleBatch:
    generator = torch.Generator().manual_seed(seed)

    def words(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    titles = [[[*words(n - 1), END] for n in TITLES] for _ in PROMPTS]
    return title_batch([words(n) for n in PROMPTS], titles, PAD, Rows(packed=True))


def in_training(family: str, lora: bool) -> Any:
    """A float32 model; as in alignment, dropout apart, which these configs have at 0."""
    return make_model(family, lora).float().train()


def checkpointed(model: Any) -> Any:
    """As `models/backbone.py` has it."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    return model


def runs_of_layers(model: Any) -> list[int]:
    """How often each layer's feed-forward block has been run, counted from here on."""
    layers = model.get_decoder().layers if not hasattr(model, "peft_config") else model.get_base_model().model.layers
    runs = [0] * len(layers)
    for number, layer in enumerate(layers):

        def count(*_: Any, n: int = number) -> None:
            runs[n] += 1

        layer.mlp.act_fn.register_forward_hook(count)
    return runs


def away(found: Tensor, expected: Tensor) -> float:
    """Distance as a share of the norm."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", WORKING)
@pytest.mark.parametrize("attention", ["documents", "dense"])
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_checkpointing_changes_neither_log_probs_nor_gradients(attention: Any, family: str, lora: bool) -> None:
    """Two micro-batches are both forward before either is backward: each layer, the last one too, must be run again
    with the places of its own batch."""
    batches = [ragged(0), ragged(1)]
    assert not torch.equal(batches[0].input_ids, batches[1].input_ids)

    def step(model: Any) -> tuple[Tensor, dict[str, Tensor], list[int]]:
        runs = runs_of_layers(model)
        scorer = TitleScorer(model, attention)
        logps = torch.stack([scorer(batch) for batch in batches])
        return logps.detach(), gradients(model, logps), runs

    expected, plain, once = step(in_training(family, lora))
    logps, again, twice = step(checkpointed(in_training(family, lora)))
    assert once == [2, 2]
    assert twice == [4, 4]  # it was on
    torch.testing.assert_close(logps, expected, rtol=1e-5, atol=0)
    assert again.keys() == plain.keys()
    assert len(plain) > (4 if lora else 8)
    for name, gradient in plain.items():
        assert away(again[name], gradient) <= 1e-5, name


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", WORKING)
def test_bfloat16_autocast_is_close_to_float32(family: str, lora: bool) -> None:
    model = in_training(family, lora)
    scorer = TitleScorer(model)
    batch = ragged(0)
    expected = scorer(batch)
    whole = gradients(model, expected)
    with torch.autocast("cpu", torch.bfloat16):
        logps = scorer(batch)
    halves = gradients(model, logps)
    assert logps.dtype == torch.float32  # normalizers and sums are not in halves
    assert 1e-5 < away(logps.detach(), expected.detach()) < OFF_BY  # and the rest is
    assert halves.keys() == whole.keys()
    for name, gradient in whole.items():
        assert halves[name].dtype == torch.float32
        assert away(halves[name], gradient) < OFF_BY, name
