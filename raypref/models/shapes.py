"""Shapes of models that presets name, so that what they cost can be told where they are not: no weights, no hub."""

from __future__ import annotations

from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "meta-llama/Meta-Llama-3-8B-Instruct": {
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-7B-Instruct": {
        "model_type": "qwen2", "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "max_position_embeddings": 32_768, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""By `model.path`: what their config.json says."""


def parameters_of(shape: dict[str, Any]) -> tuple[float, float]:
    """Parameters of a model's matrices: those that each token meets, and all of them."""
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    head = shape.get("head_dim") or hidden // heads
    attention = 2 * hidden * head * (heads + (shape.get("num_key_value_heads") or heads))
    layers = shape["num_hidden_layers"] * (attention + 3 * hidden * shape["intermediate_size"])
    vocabulary = shape["vocab_size"] * hidden
    return float(layers), float(layers + vocabulary * (1 if shape["tie_word_embeddings"] else 2))
