"""Small GGUF files with random weights, as llama.cpp's converter lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

LAYERS, HEADS, KEY_HEADS = {"gemma3": 6}, 4, 2  # the sixth of Gemma's layers is the first without a window
INNER = 512
HEAD = {"gemma3": 256, "qwen3": 128}  # what the reader of transformers takes for granted
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "1 9"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġthe", "19"]
# Gemma's kind: special tokens, one that is cut out of the text, bytes, then characters and words with scores.
SPACE = "▁"
GEMMA_SPECIAL, GEMMA_APART = ["<pad>", "<eos>", "<bos>", "<unk>"], ["\n\n"]
GEMMA_WORDS = {word: -float(i) for i, word in enumerate([SPACE + "th", "he", SPACE + "the", "th", "the", "aa", "aaa"])}
GEMMA_CHARACTERS = {c: -1000.0 - i for i, c in enumerate([SPACE, *"theawo19\n"])}
GEMMA_PLAIN = GEMMA_WORDS | GEMMA_CHARACTERS
GEMMA_TOKENS = [*GEMMA_SPECIAL, *GEMMA_APART, *(f"<0x{i:02X}>" for i in range(256)), *GEMMA_PLAIN]
GEMMA_TYPES = [3, 3, 3, 2, *[4] * len(GEMMA_APART), *[6] * 256, *[1] * len(GEMMA_PLAIN)]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SUPER_BLOCK = 256
SCALE_BYTES = {"Q4_K": slice(0, 4), "Q5_K": slice(0, 4), "Q6_K": slice(208, 210)}
"""Where a block's float16 scales lie."""


def random_blocks(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Rows of a K-quant, whose every byte may be anything but its scales, which are kept small."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // SUPER_BLOCK, size), dtype=np.uint8)
    place = SCALE_BYTES[kind]
    count = (place.stop - place.start) // 2
    scales = rng.uniform(1e-4, 4e-4, (*blocks.shape[:-1], count)).astype(np.float16)
    blocks[..., place] = scales.view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)


def write_gguf(path: Path, kind: str, quantized: str = "F32", **changes: Any) -> None:
    """A model of this architecture with random weights.

    Args:
        changes: pre (how words are cut), template (chat template), context, window, frequencies (rope_freqs), extra (a
            tensor).
    """
    wide = quantized in SCALE_BYTES
    width, gemma, rng = SUPER_BLOCK if wide else 64, kind == "gemma3", np.random.default_rng(0)
    layers, head = LAYERS.get(kind, 2), HEAD.get(kind, width // HEADS)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(layers)
    writer.add_context_length(changes.get("context", 128))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(1e6 if gemma else 5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    if kind in ("gemma3", "qwen3"):
        writer.add_key_length(head)
        writer.add_value_length(head)
    if gemma:
        writer.add_sliding_window(changes.get("window", 8))
    _add_tokenizer(writer, gemma, changes)

    def add(name: str, *shape: int, exact: bool = False) -> None:
        if exact:
            writer.add_tensor(name, 1 + rng.normal(0, 0.1, shape).astype(np.float32))
        elif wide:
            writer.add_tensor(
                name, random_blocks(rng, shape, quantized), raw_dtype=gguf.GGMLQuantizationType[quantized]
            )
        else:
            of = gguf.GGMLQuantizationType[quantized]
            values = rng.normal(0, 0.1, shape).astype(np.float32)
            writer.add_tensor(name, gguf.quants.quantize(values, of), raw_dtype=of)

    add("token_embd.weight", len(GEMMA_TOKENS if gemma else TOKENS), width)
    add("output_norm.weight", width, exact=True)
    if "frequencies" in changes:
        writer.add_tensor("rope_freqs.weight", changes["frequencies"])
    if "extra" in changes:
        add(changes["extra"], width, exact=True)
    for n in range(layers):
        for x, rows in (("q", head * HEADS), ("k", head * KEY_HEADS), ("v", head * KEY_HEADS)):
            add(f"blk.{n}.attn_{x}.weight", rows, width)
            if kind == "qwen2":
                add(f"blk.{n}.attn_{x}.bias", rows, exact=True)
            if kind in ("qwen3", "gemma3") and x != "v":
                add(f"blk.{n}.attn_{x}_norm.weight", head, exact=True)
        add(f"blk.{n}.attn_output.weight", width, head * HEADS)
        for name in ("attn_norm", "ffn_norm", *(("post_attention_norm", "post_ffw_norm") if gemma else ())):
            add(f"blk.{n}.{name}.weight", width, exact=True)
        add(f"blk.{n}.ffn_gate.weight", INNER, width)
        add(f"blk.{n}.ffn_up.weight", INNER, width)
        add(f"blk.{n}.ffn_down.weight", width, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, gemma: bool, changes: dict[str, Any]) -> None:
    if gemma:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(GEMMA_TOKENS)
        writer.add_token_scores([GEMMA_PLAIN.get(token, 0.0) for token in GEMMA_TOKENS])
        writer.add_token_types(GEMMA_TYPES)
        writer.add_bos_token_id(2)
        writer.add_eos_token_id(1)
        writer.add_unk_token_id(3)
        writer.add_pad_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(False)
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if "template" in changes:
        writer.add_chat_template(changes["template"])
