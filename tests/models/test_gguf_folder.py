"""GGUF files that the tests write themselves, made into folders: logits against transformers' own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from raypref.errors import UserError
from raypref.models.gguf_folder import convert

WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 64, 2, 4, 2, 96
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "1 9"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġthe", "19"]
TEXTS = ("the 1995 thé <|im_end|>\nthe  the", "1984\t¿qué?")


def write(path: Path, kind: str, quantized: gguf.GGMLQuantizationType, pre: str = "smollm") -> None:
    """A model of this architecture with random weights."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name: str, *shape: int, exact: bool = False) -> None:
        values = rng.normal(0, 0.1, shape).astype(np.float32)
        if exact:
            writer.add_tensor(name, 1 + values)
        else:
            data = gguf.quants.quantize(values, quantized)
            writer.add_tensor(name, data, raw_dtype=quantized)

    add("token_embd.weight", len(TOKENS), WIDTH)
    add("output_norm.weight", WIDTH, exact=True)
    narrow = WIDTH // HEADS * KEY_HEADS
    for n in range(LAYERS):
        for x, rows in (("q", WIDTH), ("k", narrow), ("v", narrow)):
            add(f"blk.{n}.attn_{x}.weight", rows, WIDTH)
            if kind == "qwen2":
                add(f"blk.{n}.attn_{x}.bias", rows, exact=True)
        add(f"blk.{n}.attn_output.weight", WIDTH, WIDTH)
        add(f"blk.{n}.attn_norm.weight", WIDTH, exact=True)
        add(f"blk.{n}.ffn_norm.weight", WIDTH, exact=True)
        add(f"blk.{n}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{n}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{n}.ffn_down.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("quantized", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_logits_are_those_of_transformers_own_reader(kind: str, quantized: str, tmp_path: Path) -> None:
    file = tmp_path / "made.gguf"
    write(file, kind, gguf.GGMLQuantizationType[quantized])
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()
    # The folder holds bfloat16: so that formats are compared and not roundings, theirs are rounded to it as well.
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter.bfloat16())
    convert(file, tmp_path / "folder")
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).eval()
    ids = torch.randint(0, len(TOKENS), (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_the_tokenizer_is_the_files_own(tmp_path: Path) -> None:
    write(tmp_path / "made.gguf", "llama", gguf.GGMLQuantizationType.F32)
    convert(tmp_path / "made.gguf", tmp_path / "folder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert tokenizer.tokenize("the 1995<|im_end|>") == ["the", "Ġ", "1", "9", "9", "5", "<|im_end|>"]  # digits apart
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIAL[1], SPECIAL[2], SPECIAL[2])


def test_what_cannot_be_converted_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "other.gguf", "mamba", gguf.GGMLQuantizationType.F32)
    with pytest.raises(UserError, match="architecture 'mamba'"):
        convert(tmp_path / "other.gguf", tmp_path / "folder")
    write(tmp_path / "words.gguf", "llama", gguf.GGMLQuantizationType.F32, pre="viking")
    with pytest.raises(UserError, match="words cut as 'viking'"):
        convert(tmp_path / "words.gguf", tmp_path / "folder")
    write(tmp_path / "five.gguf", "llama", gguf.GGMLQuantizationType.Q5_0)
    with pytest.raises(UserError, match=r"token_embd.weight is quantized as Q5_0"):
        convert(tmp_path / "five.gguf", tmp_path / "folder")
