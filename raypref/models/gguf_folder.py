"""Makes folders of the Hugging Face layout out of GGUF files (llama.cpp's format).

What a file holds is read and dequantized by the package `gguf`; the names of tensors and the order of rotated rows are
undone as llama.cpp's converter made them. Weights are saved in bfloat16, which is finer than what 4 or 8 bits held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.llama import LlamaConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

from raypref.errors import UserError

CONTROL = 3
"""GGUF's type of a special token."""
HIGHEST_POSITIONS = 32_768
QUANTIZATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")

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

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _split(pattern: str) -> Any:
    words = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "qwen2": lambda: _split(QWEN2_WORDS),
    "llama-bpe": lambda: _split(LLAMA3_WORDS),
}
"""By `tokenizer.ggml.pre`."""


@dataclass(frozen=True)
class Architecture:
    """A family of models.

    Attributes:
        rotated: the file has rows of queries and keys in pairs that are rotated together; transformers has halves.
    """

    config: type[PretrainedConfig]
    rotated: bool = False


ARCHITECTURES = {
    "llama": Architecture(LlamaConfig, rotated=True),
    "qwen2": Architecture(Qwen2Config),
    "qwen3": Architecture(Qwen3Config),
}


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's model into `folder`: config.json, model.safetensors, tokenizer and chat template.

    Raises:
        UserError: another architecture, tokenizer or quantization than those of this module.
    """
    from gguf import GGUFReader

    reader = GGUFReader(file)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    kind = facts["general.architecture"]
    if kind not in ARCHITECTURES:
        raise UserError(
            f"a model of architecture '{kind}' can't be converted", where=str(file),
            mend="take one of " + ", ".join(ARCHITECTURES) + ", or a folder with safetensors weights",
        )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(facts, file)
    tokenizer.save_pretrained(folder)
    config = _config(ARCHITECTURES[kind], facts, tokenizer, {t.name for t in reader.tensors})
    config.save_pretrained(folder)
    save_file(_weights(ARCHITECTURES[kind], reader, config, file), folder / "model.safetensors", {"format": "pt"})
    made = {"from": file.name, "license": facts.get("general.license"), "name": facts.get("general.name")}
    (folder / "gguf.json").write_text(json.dumps(made, indent=1) + "\n")


def _config(
    of: Architecture, facts: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, tensors: set[str]
) -> PretrainedConfig:
    def fact(name: str, default: Any = None) -> Any:
        return facts.get(f"{facts['general.architecture']}.{name}", default)

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
        rope_parameters={"rope_type": "default", "rope_theta": fact("rope.freq_base", 10_000.0)},
        tie_word_embeddings="output.weight" not in tensors,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    config.architectures = [of.config.__name__.replace("Config", "ForCausalLM")]
    return config


def _tokenizer(facts: Mapping[str, Any], file: Path) -> PreTrainedTokenizerFast:
    kind, pre = facts["tokenizer.ggml.model"], facts.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        raise UserError(
            f"a tokenizer of kind '{kind}', words cut as '{pre}', can't be converted", where=str(file),
            mend="take a model whose tokenizer is byte-level BPE cut as " + ", ".join(PRE_TOKENIZERS),
        )  # fmt: skip
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])

    def token(name: str) -> str | None:
        number = facts.get(f"tokenizer.ggml.{name}_token_id")
        return None if number is None else tokens[number]

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=token("bos"),
        eos_token=token("eos"),
        unk_token=token("unknown"),
        pad_token=token("padding") or token("eos"),
        chat_template=facts.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_max_length=min(facts[f"{facts['general.architecture']}.context_length"], HIGHEST_POSITIONS),
    )


def _weights(of: Architecture, reader: Any, config: Any, file: Path) -> dict[str, torch.Tensor]:
    from gguf.quants import dequantize

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in QUANTIZATIONS:
            raise UserError(
                f"tensor {tensor.name} is quantized as {tensor.tensor_type.name}", where=str(file),
                mend="take a file of " + ", ".join(QUANTIZATIONS),
            )  # fmt: skip
        name = _name(tensor.name)
        if name is None:  # frequencies of rotation, which follow from the config
            continue
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        if of.rotated and part in heads:
            rows = values.reshape(heads[part], -1, 2, *values.shape[1:])
            values = rows.swapaxes(1, 2).reshape(values.shape)
        weights[name] = torch.from_numpy(np.ascontiguousarray(values)).bfloat16()
    return weights


def _name(name: str) -> str | None:
    """A tensor's name in transformers; None for what is no weight there."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    if name.startswith("rope_"):
        return None
    _, number, rest = name.split(".", 2)
    return f"model.layers.{number}.{LAYER[rest]}"
