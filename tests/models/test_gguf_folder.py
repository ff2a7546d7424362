"""GGUF files that the tests write themselves, made into folders: logits against transformers' own reader."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from raypref.errors import UserError
from raypref.models.gguf_folder import convert
from raypref.models.gguf_tokenizer import merges_of
from raypref.models.layout import title_batch
from raypref.models.scoring import TitleScorer
from tests.support.gguf_files import (
    GEMMA_PLAIN,
    GEMMA_TOKENS,
    SPACE,
    SPECIAL,
    SUPER_BLOCK,
    TEMPLATE,
    random_blocks,
    write_gguf,
)

TEXTS = ("the 1995 thé <|im_end|>\nthe  the", "1984\t¿qué?")
ROUND = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
OTHERS = [("qwen2", "Q8_0"), ("qwen3", "Q4_0"), ("gemma3", "F16")]
KINDS = [("llama", q) for q in (*ROUND, "Q4_K", "Q5_K", "Q6_K")] + OTHERS


@pytest.mark.parametrize(("kind", "quantized"), [*KINDS, ("gemma3", "Q4_K")])
def test_logits_are_those_of_transformers_own_reader(kind: str, quantized: str, tmp_path: Path) -> None:
    file = tmp_path / "made.gguf"
    write_gguf(file, kind, quantized)
    assert_read_as_transformers_does(file, tmp_path / "folder")


@pytest.mark.skipif("RAYPREF_GGUF" not in os.environ, reason="a real file: set RAYPREF_GGUF to it")
def test_logits_of_a_real_file_are_those_of_transformers_own_reader(tmp_path: Path) -> None:
    assert_read_as_transformers_does(Path(os.environ["RAYPREF_GGUF"]), tmp_path / "folder")


def assert_read_as_transformers_does(file: Path, folder: Path) -> None:
    theirs: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    # The folder holds bfloat16: so that formats are compared and not roundings, theirs are rounded to it as well.
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter.bfloat16())
    convert(file, folder)
    ours: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, ours.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(ids).logits
        assert float(found.std()) > 1e-2  # else anything would be close
        torch.testing.assert_close(found, theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_gemma_scores_titles_as_one_pass_each_does(tmp_path: Path) -> None:
    write_gguf(tmp_path / "made.gguf", "gemma3")
    convert(tmp_path / "made.gguf", tmp_path / "folder")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).eval()
    prompt, titles = list(range(2, 22)), [[30, 31, 1], [40, 1]]
    with torch.no_grad():
        (scored,) = TitleScorer(model)(title_batch([prompt], [titles], 0))
        for title, score in zip(titles, scored):
            logps = model(torch.tensor([prompt + title])).logits[0].log_softmax(-1)
            alone = sum(logps[len(prompt) - 1 + i, token] for i, token in enumerate(title))
            torch.testing.assert_close(score, alone, atol=1e-4, rtol=1e-5)


def _by_hand_q4_k(block: np.ndarray, fifth: np.ndarray | None = None) -> np.ndarray:
    """ggml's dequantize_row_q4_K, a value at a time; with the `fifth` bits of the values, a byte for eight of them."""
    d, least = (float(x) for x in block[:4].view(np.float16))
    scales, nibbles, out = block[4:16].astype(int), block[16:].astype(int), []
    bits = np.zeros(32, dtype=int) if fifth is None else fifth.astype(int)
    for group in range(8):
        if group < 4:
            scale, offset = scales[group] & 63, scales[group + 4] & 63
        else:
            scale = (scales[group + 4] & 15) | ((scales[group - 4] >> 6) << 4)
            offset = (scales[group + 4] >> 4) | ((scales[group] >> 6) << 4)
        own = nibbles[32 * (group // 2) : 32 * (group // 2) + 32]
        values = [(x >> 4 * (group % 2) & 15) + 16 * (bit >> group & 1) for x, bit in zip(own, bits)]
        out += [d * scale * value - least * offset for value in values]
    return np.array(out)


def _by_hand_q5_k(block: np.ndarray) -> np.ndarray:
    """ggml's dequantize_row_q5_K: a block of Q4_K with 32 bytes of fifth bits between its scales and its values."""
    return _by_hand_q4_k(np.concatenate([block[:16], block[48:]]), block[16:48])


def _by_hand_q6_k(block: np.ndarray) -> np.ndarray:
    """ggml's dequantize_row_q6_K, a value at a time."""
    low, high, scales = block[:128].astype(int), block[128:192].astype(int), block[192:208].view(np.int8).astype(int)
    d, out = float(block[208:210].view(np.float16)[0]), np.zeros(SUPER_BLOCK)
    for half in range(2):
        for i in range(32):
            for quarter in range(4):
                of_low = low[64 * half + i + 32 * (quarter % 2)] >> (4 * (quarter // 2)) & 15
                value = (of_low | ((high[32 * half + i] >> 2 * quarter & 3) << 4)) - 32
                place = 128 * half + 32 * quarter + i
                out[place] = d * scales[place // 16] * value
    return out


@pytest.mark.parametrize(
    ("kind", "by_hand"), [("Q4_K", _by_hand_q4_k), ("Q5_K", _by_hand_q5_k), ("Q6_K", _by_hand_q6_k)]
)
def test_k_quants_are_read_as_ggml_reads_them(kind: str, by_hand: Any) -> None:
    blocks = random_blocks(np.random.default_rng(1), (16, SUPER_BLOCK), kind)
    read = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(read, [by_hand(block) for block in blocks], rtol=1e-5, atol=1e-7)


def test_the_tokenizer_is_the_files_own(tmp_path: Path) -> None:
    write_gguf(tmp_path / "made.gguf", "llama", template=TEMPLATE)
    convert(tmp_path / "made.gguf", tmp_path / "folder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert tokenizer.tokenize("the 1995<|im_end|>") == ["the", "Ġ", "1", "9", "9", "5", "<|im_end|>"]  # digits apart
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIAL[1], SPECIAL[2], SPECIAL[2])
    said = tokenizer.apply_chat_template([{"role": "user", "content": "the"}], tokenize=False)
    assert said == "<|im_start|>user\nthe<|im_end|>\n"


def _sentence_piece(text: str) -> list[str]:
    """SentencePiece's rule: of all neighbours that make a token, join those of the best score, the leftmost first."""
    pieces = list(text.replace(" ", SPACE))
    while True:
        pairs = [a + b for a, b in itertools.pairwise(pieces)]
        joined = [(GEMMA_PLAIN[pair], -i) for i, pair in enumerate(pairs) if pair in GEMMA_PLAIN]
        if not joined:
            break
        place = -max(joined)[1]
        pieces[place : place + 2] = ["".join(pieces[place : place + 2])]
    return pieces


def test_gemmas_tokenizer_joins_as_sentence_piece_does(tmp_path: Path) -> None:
    write_gguf(tmp_path / "made.gguf", "gemma3")
    convert(tmp_path / "made.gguf", tmp_path / "folder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = "".join(rng.choice(list(" theaw19"), int(rng.integers(1, 30))))
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", *_sentence_piece(text)], text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("the\n\né", add_special_tokens=False)["input_ids"])
    assert tokens == ["the", "\n\n", "<0xC3>", "<0xA9>"]
    assert len(GEMMA_TOKENS) == len(tokenizer)


def test_merges_of_scores() -> None:
    assert merges_of({"a": -5, "b": -6, "ab": -2, "abb": -1, "bb": -3}) == [
        ("a", "bb"), ("ab", "b"), ("a", "b"), ("b", "b"),
    ]  # fmt: skip


def test_llama_3s_frequencies_are_named_and_others_refused(tmp_path: Path) -> None:
    wave = 2 * np.pi * 5000.0 ** (np.arange(0, 16, 2) / 16)
    smooth = np.clip((8192 / wave - 1) / 3, 0, 1)
    factors = (1 / (smooth + (1 - smooth) / 8)).astype(np.float32)
    assert factors[-1] > 1.5  # the slowest one is slowed
    write_gguf(tmp_path / "made.gguf", "llama", frequencies=factors)
    convert(tmp_path / "made.gguf", tmp_path / "folder")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32)
    rotation = LlamaRotaryEmbedding(model.config).inv_freq.double().numpy()
    np.testing.assert_allclose(rotation, 2 * np.pi / wave / factors, rtol=1e-5)
    write_gguf(tmp_path / "own.gguf", "llama", frequencies=np.linspace(1, 8, 8).astype(np.float32))
    with pytest.raises(UserError, match="frequencies of its own"):
        convert(tmp_path / "own.gguf", tmp_path / "other")


def test_what_cannot_be_converted_is_refused_by_name(tmp_path: Path) -> None:
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("mamba", {}, "architecture 'mamba'"),
        ("llama", {"pre": "viking"}, "words cut as 'viking'"),
        ("llama", {"quantized": "MXFP4"}, "token_embd.weight is quantized as MXFP4"),
        ("llama", {"extra": "blk.0.ssm_norm.weight"}, "not known: blk.0.ssm_norm.weight"),
    ]
    for number, (kind, changes, message) in enumerate(refused):
        write_gguf(tmp_path / f"{number}.gguf", kind, **changes)
        with pytest.raises(UserError, match=message):
            convert(tmp_path / f"{number}.gguf", tmp_path / "folder")
    whole = (tmp_path / "0.gguf").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"no model at all")):
        (tmp_path / f"{name}.gguf").write_bytes(content)
        with pytest.raises(UserError, match="can't be read"):
            convert(tmp_path / f"{name}.gguf", tmp_path / "folder")
    assert not list(tmp_path.glob("folder/*.safetensors"))
