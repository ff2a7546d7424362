"""Makes folders of the Hugging Face layout out of GGUF files (llama.cpp's format).

What a file holds is read and dequantized by the package `gguf`; the names of tensors and the order of rotated rows are
undone as llama.cpp's converter made them. Weights are saved in bfloat16, which is finer than what 4 or 8 bits held.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.llama import LlamaConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

from raypref.errors import UserError
from raypref.models.gguf_tokenizer import HIGHEST_POSITIONS, tokenizer_of

QUANTIZATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")

LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    **{f"attn_{x}.{part}": f"self_attn.{x}_proj.{part}" for x in "qkv" for part in ("weight", "bias")},
    "attn_output.weight": "self_attn.o_proj.weight",
    **{f"ffn_{x}.weight": f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
}
"""GGUF's names of a layer's tensors, and transformers'."""
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

GEMMA_LAYER = LAYER | {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
GEMMA_PATTERN, GEMMA_LOCAL_THETA, GEMMA_27B_LAYERS = 6, 10_000.0, 62
LLAMA3_FREQUENCIES = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


Fact = Callable[..., Any]
"""A fact of the file's architecture by its name, or a default."""


def _plain(fact: Fact, factors: np.ndarray | None) -> dict[str, Any]:
    theta = fact("rope.freq_base", 10_000.0)
    if (scaling := fact("rope.scaling.type", "none")) != "none":
        hint = "take a folder with safetensors weights, whose config says how"
        raise UserError(f"a model whose rotation is scaled ('{scaling}') can't be converted", hint=hint)
    if factors is None:
        return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    rope = {"rope_type": "llama3", "rope_theta": theta, "factor": float(factors.max()), **LLAMA3_FREQUENCIES}
    return {"rope_parameters": rope}


def _gemma(fact: Fact, factors: np.ndarray | None) -> dict[str, Any]:
    """Windows in all layers but each sixth, whose rotation is slower and, in the larger models, stretched."""
    whole = {"rope_type": "default", "rope_theta": fact("rope.freq_base", 1_000_000.0)}
    if fact("rope.scaling.type", "none") == "linear":
        whole |= {"rope_type": "linear", "factor": fact("rope.scaling.factor")}
    local = {"rope_type": "default", "rope_theta": fact("rope.freq_base_swa", GEMMA_LOCAL_THETA)}
    largest = fact("block_count") == GEMMA_27B_LAYERS
    scale = fact("embedding_length") // fact("attention.head_count") if largest else fact("attention.key_length")
    return {
        "rope_parameters": {"full_attention": whole, "sliding_attention": local},
        "sliding_window": fact("attention.sliding_window"),
        "sliding_window_pattern": GEMMA_PATTERN,
        "query_pre_attn_scalar": scale,
    }


@dataclass(frozen=True)
class Architecture:
    """A family of models.

    Attributes:
        rotated: the file has rows of queries and keys in pairs that are rotated together; transformers has halves.
        shifted: the file's norms are 1 + weight.
        layer: the file's names of a layer's tensors, and transformers'.
        special: the family's own arguments of its config.
    """

    config: type[PretrainedConfig]
    model: str
    rotated: bool = False
    shifted: bool = False
    layer: Mapping[str, str] = field(default_factory=lambda: LAYER)
    special: Callable[[Fact, np.ndarray | None], dict[str, Any]] = _plain


ARCHITECTURES = {
    "llama": Architecture(LlamaConfig, "LlamaForCausalLM", rotated=True),
    "qwen2": Architecture(Qwen2Config, "Qwen2ForCausalLM"),
    "qwen3": Architecture(Qwen3Config, "Qwen3ForCausalLM"),
    "gemma3": Architecture(Gemma3TextConfig, "Gemma3ForCausalLM", shifted=True, layer=GEMMA_LAYER, special=_gemma),
}


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's model into `folder`: config.json, model.safetensors, tokenizer and chat template.

    Raises:
        UserError: no GGUF file, or another architecture, tokenizer, rotation or quantization than those of this module.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, OSError) as error:
        hint = "fetch the file anew; of a file in parts give all of them, in order"
        raise UserError(f"the GGUF file can't be read: {error}", where=str(file), hint=hint) from error
    facts = {name: field.contents() for name, field in reader.fields.items()}
    kind = facts["general.architecture"]
    if kind not in ARCHITECTURES:
        raise UserError(
            f"a model of architecture '{kind}' can't be converted", where=str(file),
            hint="take one of " + ", ".join(ARCHITECTURES) + ", or a folder with safetensors weights",
        )  # fmt: skip
    family = ARCHITECTURES[kind]
    _check_quantization(reader, file)
    tokenizer = tokenizer_of(facts, file)
    config = _config(family, facts, tokenizer, reader, file)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    save_file(_weights(family, reader, config, file), folder / "model.safetensors", {"format": "pt"})
    made = {"from": file.name, "license": facts.get("general.license"), "name": facts.get("general.name")}
    (folder / "gguf.json").write_text(json.dumps(made, indent=1) + "\n")


def _config(
    of: Architecture, facts: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, reader: Any, file: Path
) -> PretrainedConfig:
    def fact(name: str, default: Any = None) -> Any:
        return facts.get(f"{facts['general.architecture']}.{name}", default)

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    factors = np.array(tensors["rope_freqs.weight"].data) if "rope_freqs.weight" in tensors else None
    width, heads = fact("embedding_length"), fact("attention.head_count")
    made: Any = of.config  # its keyword arguments are those of a family
    config: PretrainedConfig = made(
        vocab_size=len(facts["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=fact("feed_forward_length"),
        num_hidden_layers=fact("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=fact("attention.head_count_kv", heads),
        head_dim=fact("attention.key_length", width // heads),
        max_position_embeddings=min(fact("context_length"), HIGHEST_POSITIONS),
        rms_norm_eps=fact("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in tensors,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
        **of.special(fact, factors),
    )
    config.architectures = [of.model]
    if factors is not None:
        _check_frequencies(config, factors, file)
    return config


def _check_frequencies(config: Any, factors: np.ndarray, file: Path) -> None:
    """Refuse a model whose rotation is slowed in another way than Llama 3's: the file has no name for it.

    `factors` (head_dim / 2,): by what each frequency is divided.
    """
    rope = config.rope_parameters
    base = config.head_dim
    wave = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, base, 2) / base)
    if rope["rope_type"] == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((rope["original_max_position_embeddings"] / wave - low) / (high - low), 0, 1)
        if np.allclose(factors, 1 / (smooth + (1 - smooth) / rope["factor"]), rtol=1e-3):
            return
    hint = "take a folder with safetensors weights, whose config names the rotation"
    raise UserError("the model's rotation has frequencies of its own (rope_freqs)", where=str(file), hint=hint)


def _check_quantization(reader: Any, file: Path) -> None:
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in QUANTIZATIONS:
            raise UserError(
                f"tensor {tensor.name} is quantized as {tensor.tensor_type.name}", where=str(file),
                hint="take a file of " + ", ".join(QUANTIZATIONS),
            )  # fmt: skip


def _weights(of: Architecture, reader: Any, config: Any, file: Path) -> dict[str, torch.Tensor]:
    from gguf.quants import dequantize

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        name = _name(tensor.name, of, file)
        if name is None:  # frequencies of rotation, which follow from the config
            continue
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if of.rotated and part in heads:
            rows = values.reshape(heads[part], -1, 2, *values.shape[1:])
            values = rows.swapaxes(1, 2).reshape(values.shape)
        if of.shifted and part.endswith("norm"):
            values = values - 1
        weights[name] = torch.from_numpy(np.ascontiguousarray(values)).bfloat16()
    return weights


def _name(name: str, of: Architecture, file: Path) -> str | None:
    """A tensor's name in transformers; None for what is no weight there."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    if name.startswith("rope_"):
        return None
    _, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    if not name.startswith("blk.") or rest not in of.layer:
        hint = "take a plain model of its family, or a folder with safetensors weights"
        raise UserError(f"the file has a tensor that is not known: {name}", where=str(file), hint=hint)
    return f"model.layers.{number}.{of.layer[rest]}"
