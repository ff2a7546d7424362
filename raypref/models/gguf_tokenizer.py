"""Tokenizers out of GGUF files: byte-level BPE (GPT-2's kind) and SentencePiece's BPE (Gemma's)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from raypref.errors import UserError

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
"""GGUF's types of tokens; the last are special to nobody, but are cut out of the text before anything else."""
HIGHEST_POSITIONS = 32_768
SPACE = "\u2581"  # SentencePiece's sign for a space

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
BEGINS = {"llama-bpe": True}
"""Whether a text begins with the begin token where the file does not say."""


def tokenizer_of(facts: Mapping[str, Any], file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that a file's facts describe, its chat template with it.

    Raises:
        UserError: it is of another kind.
    """
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    tokenizer = _core(facts, file)
    special = [token for token, kind in zip(tokens, types) if kind == CONTROL]
    apart = [token for token, kind in zip(tokens, types) if kind == USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in apart])

    def token(name: str) -> str | None:
        number = facts.get(f"tokenizer.ggml.{name}_token_id")
        return None if number is None else tokens[number]

    begin, begins = token("bos"), BEGINS.get(facts.get("tokenizer.ggml.pre", ""), False)
    if begin is not None and facts.get("tokenizer.ggml.add_bos_token", begins):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[begin, "$A"], special_tokens=[(begin, facts["tokenizer.ggml.bos_token_id"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=token("eos"),
        unk_token=token("unknown"),
        pad_token=token("padding") or token("eos"),
        chat_template=facts.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_max_length=min(facts[f"{facts['general.architecture']}.context_length"], HIGHEST_POSITIONS),
    )


def _core(facts: Mapping[str, Any], file: Path) -> Tokenizer:
    kind, pre = facts["tokenizer.ggml.model"], facts.get("tokenizer.ggml.pre")
    if kind == "gpt2" and pre in PRE_TOKENIZERS:
        return _byte_level(facts, PRE_TOKENIZERS[pre]())
    # Other SentencePiece models put a space before the text, which would change a title's first token.
    if kind == "llama" and not facts.get("tokenizer.ggml.add_space_prefix", True):
        return _sentence_piece(facts)
    raise UserError(
        f"a tokenizer of kind '{kind}', words cut as '{pre}', can't be converted", where=str(file),
        hint="take a model whose tokenizer is Gemma's, or byte-level BPE cut as " + ", ".join(PRE_TOKENIZERS),
    )  # fmt: skip


def _byte_level(facts: Mapping[str, Any], words: Any) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(facts["tokenizer.ggml.tokens"])}
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_piece(facts: Mapping[str, Any]) -> Tokenizer:
    """BPE over characters; what no token stands for is said in bytes."""
    tokens, scores = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.scores"]
    unknown = tokens[facts.get("tokenizer.ggml.unknown_token_id", 0)]
    types = facts["tokenizer.ggml.token_type"]
    plain = {token: score for token, score, kind in zip(tokens, scores, types) if kind == NORMAL}
    bpe = models.BPE(
        {token: i for i, token in enumerate(tokens)}, merges_of(plain), unk_token=unknown, fuse_unk=True,
        byte_fallback=True,
    )  # fmt: skip
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def merges_of(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges of a SentencePiece vocabulary, which has scores in their place: the best token is merged first.

    All ways to merge a token come at its turn, as the file doesn't say which one was learned.
    """
    found = []
    for token in sorted(scores, key=lambda token: -scores[token]):
        halves = ((token[:i], token[i:]) for i in range(1, len(token)))
        found += [(left, right) for left, right in halves if left in scores and right in scores]
    return found
