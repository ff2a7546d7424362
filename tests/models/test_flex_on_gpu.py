"""FlexAttention as it is trained, compiled and in bfloat16 on a GPU, against the dense mask: log-probs and gradients.

    pytest -m gpu tests/models/test_flex_on_gpu.py

Both are compared with the dense mask in float32. bfloat16 has 8 bits, so its products are right to 2^-8 each; how much
that comes to at the end is what the dense mask in bfloat16 shows, and FlexAttention may be twice as far off.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from raypref.models.layout import TitleBatch, title_batch
from raypref.models.scoring import TitleScorer
from tests.support.families import END, PAD, gradients

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention is compiled for a CUDA device: none here"),
]
DEVICE = "cuda"
VOCABULARY = 300
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,  # the kernel takes no head under 16
    "max_position_embeddings": 1024, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": END,
}  # fmt: skip
CONFIGS = {"full": LlamaConfig(**SHAPE), "window": MistralConfig(**SHAPE, sliding_window=70)}
PROMPTS = (5, 190, 64, 333, 127)  # over one and over several blocks of 128, and on a block's edge
TITLES = (1, 2, 9, 30, 9, 4)
FURTHER, ROUNDING = 2.0, 2**-8
MOST = 0.1
"""Of the dense mask in bfloat16, as a share of the norm: further off, and a comparison with it would say nothing."""


def ragged(scorer: TitleScorer) -> TitleBatch:
    generator = torch.Generator().manual_seed(0)

    def words(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    prompts = [words(n) for n in PROMPTS]
    titles = [[[*words(n - 1), END] for n in TITLES] for _ in prompts]
    return title_batch(prompts, titles, PAD, scorer.rows()).to(torch.device(DEVICE))


def away(found: Tensor, expected: Tensor) -> float:
    """Distance as a share of the norm."""
    return float((found.float() - expected).norm() / expected.norm())


def made(kind: str, weights: torch.dtype, dtype: torch.dtype) -> Any:
    """The same weights each time, rounded to one type and held in another; buffers stay in float32."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[kind])).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.1)
            parameter.data = parameter.data.to(weights).to(dtype)
    return model.to(DEVICE)


def run(
    kind: str, attention: Any, weights: torch.dtype, dtype: torch.dtype, half: bool, fused: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs and gradients."""
    model = made(kind, weights, dtype)
    batch = ragged(TitleScorer(model, "flex"))
    assert len(batch.input_ids) == 1  # packed
    assert batch.padding > 0
    scorer = TitleScorer(model, attention)
    if fused:
        scorer.compile_layers()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
        logps = scorer(batch)
    return logps.detach(), gradients(model, logps)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("fused", [False, True])
def test_flex_attention_is_the_dense_mask_to_bfloat16_accuracy(kind: str, weights: torch.dtype, fused: bool) -> None:
    """With float32 weights, as all weights are trained, and with bfloat16 ones, as they lie under an adapter.

    fused: through layers compiled as a whole (`resources.compile`).
    """
    expected, gradients_expected = run(kind, "dense", weights, torch.float32, half=False)
    dense, gradients_dense = run(kind, "dense", weights, weights, half=True)
    flex, gradients_flex = run(kind, "flex", weights, weights, half=True, fused=fused)
    assert flex.dtype == torch.float32
    assert 0 < away(dense, expected) < MOST  # halves were used, and are good enough to say something
    assert away(flex, expected) <= FURTHER * away(dense, expected) + ROUNDING
    assert gradients_flex.keys() == gradients_expected.keys()
    for name, gradient in gradients_expected.items():
        assert away(gradients_dense[name], gradient) < MOST, name
        assert away(gradients_flex[name], gradient) <= FURTHER * away(gradients_dense[name], gradient) + ROUNDING, name
