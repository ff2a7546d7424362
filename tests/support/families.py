"""Tiny models of the families that must work."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY, PAD, END = 50, 0, 1
WINDOW = 9  # shorter than most prompts, so that a window that is ignored or counted wrongly shows
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "bos_token_id": 2,
    "eos_token_id": END,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen2 with a window on some layers": Qwen2Config(
        **SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SHAPE),
    "mistral with a window": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "mistral without": MistralConfig(**SHAPE, sliding_window=None),
    "gemma": GemmaConfig(**SHAPE),
    "gemma2": Gemma2Config(
        **SHAPE,
        sliding_window=WINDOW,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, sliding_window_pattern=2, query_pre_attn_scalar=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=2),
}


def make_model(family: str, lora: bool, vocabulary: int = VOCABULARY) -> Any:
    """A float64 model whose weights are large enough that attention has opinions."""
    torch.manual_seed(0)
    config = copy.deepcopy(FAMILIES[family])
    config.vocab_size = vocabulary
    model = AutoModelForCausalLM.from_config(config).double().eval()
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not (lora and "lora" not in name):
                parameter.normal_(0, 0.15)
            elif parameter.ndim > 1:
                parameter.mul_(5)
    return model


def naive(model: Any, prompts: list[list[int]], titles: list[list[list[int]]]) -> Tensor:
    """(B, C) by one forward pass a title."""
    rows = []
    for prompt, answers in zip(prompts, titles):
        row = []
        for answer in answers:
            ids = torch.tensor([[*prompt, *answer]])
            logps = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            row.append(logps.gather(1, torch.tensor(answer)[:, None]).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def gradients(model: Any, logps: Tensor) -> dict[str, Tensor]:
    """Of a sum with weights that differ for each title."""
    model.zero_grad()
    (logps * torch.linspace(-1, 2, logps.numel(), device=logps.device).view_as(logps)).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
