"""Layers fused by torch.compile (`resources.compile`) score and learn as they do unfused.

On a GPU, in bfloat16 and by FlexAttention: `test_flex_on_gpu.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raypref.config.training import ResourceConfig
from raypref.models.layout import Rows, title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import END, PAD, gradients, make_model

FAMILIES = [("llama", False), ("llama", True), ("qwen3", False)]


@pytest.mark.parametrize(("family", "lora"), FAMILIES)
def test_traced_layers_give_the_same_log_probs_and_gradients(
    family: str, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced for all lengths, forward and backward, as for fusing; without the C++ compiler's half a minute."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    assert_the_same(family, lora)


@pytest.mark.measures
def test_fused_layers_give_the_same_log_probs_and_gradients() -> None:
    """Compiled whole: what is fused is C++ here, which takes the compiler longer than all the rest."""
    assert_the_same("llama", True)


def assert_the_same(family: str, lora: bool) -> None:
    torch.compiler.reset()
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for fused in (False, True):
        model = make_model(family, lora).float().train()
        scorer = TitleScorer(model, "dense")
        if fused:
            scorer.compile_layers()
        for prompts in ([[5, 6, 7, 8], [9, 4]], [[3, 5, 9], [4] * 7]):  # lengths change from step to step
            logps = scorer(title_batch(prompts, [[[6, 7, END], [8, END]]] * 2, PAD, Rows(packed=True)))
        found.append((logps.detach(), gradients(model, logps)))
    (plain, by_name), (compiled, compiled_by_name) = found
    assert torch.allclose(plain, compiled, rtol=1e-5)
    assert by_name.keys() == compiled_by_name.keys()
    for name, gradient in by_name.items():
        assert torch.allclose(gradient, compiled_by_name[name], rtol=1e-3, atol=1e-5 * float(gradient.norm())), name


def test_all_layers_are_compiled_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda layer: compiled.append(layer))
    model = make_model("llama", False).float()
    TitleScorer(model, "dense").compile_layers()
    layers = list(model.get_decoder().layers)
    assert len(layers) > 1
    assert compiled == layers[:-1]


@pytest.mark.parametrize("attention", ["auto", "documents"])
def test_attention_document_by_document_is_refused(attention: Any) -> None:
    with pytest.raises(ValueError, match="take attention flex"):
        ResourceConfig(compile=True, attention=attention)
