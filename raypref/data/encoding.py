"""Between text and tokens: the one way in for prompts and titles, the one way out for answers.

Titles are text: one that holds `</s>` or `<|eot_id|>` holds these letters, never the token of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from raypref.data.chat_template import ChatFrame
from raypref.data.title_text import first_line, normalized
from raypref.errors import UserError

MUTE = 0.01  # share of titles that may be beyond a tokenizer; above it, ValidRatio would tell of the tokenizer
NAMED = 3  # titles that a message names


def encode_titles(tokenizer: PreTrainedTokenizerBase, titles: Sequence[str]) -> list[list[int]]:
    """Tokens of each title alone, as it stands in an answer: nothing before it, no end token."""
    ids: list[list[int]] = tokenizer(list(titles), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], frame: ChatFrame | None = None
) -> list[list[int]]:
    """Tokens of each prompt, in `frame`; without one, after the begin token where the tokenizer puts one.

    What a tokenizer puts at a text's end (an end token, `[SEP]`) is left out, as the answer is yet to come. In a frame
    the line break that ends a prompt is left out too: the answer has a line of its own there.
    """
    if frame is not None:
        messages = encode_titles(tokenizer, [text.removesuffix("\n") for text in texts])
        return [[*frame.before, *ids, *frame.after] for ids in messages]
    if tokenizer.is_fast:  # its Rust core, as the offsets that a call computes take a third more
        core: Any = tokenizer.backend_tokenizer
        core.no_truncation()
        core.no_padding()
        core.encode_special_tokens = True
        encoded = [encoding.ids for encoding in core.encode_batch_fast(list(texts), add_special_tokens=True)]
    else:
        encoded = tokenizer(list(texts), split_special_tokens=True, verbose=False)["input_ids"]
    appended = _appended(tokenizer)
    return [ids[: len(ids) - appended] for ids in encoded] if appended else encoded


def _appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens the tokenizer puts behind a text."""
    special = set(tokenizer.all_special_ids)

    def ending(**how: Any) -> int:
        ids = tokenizer("a", **how)["input_ids"]
        return next((n for n, token in enumerate(reversed(ids)) if token not in special), len(ids))

    return ending(add_special_tokens=True) - ending(add_special_tokens=False)


def decode(tokenizer: PreTrainedTokenizerBase, rows: Any) -> list[str]:
    """The text of each row of tokens without special ones, its white space as it was said."""
    texts: list[str] = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return texts


def answerable(tokenizer: PreTrainedTokenizerBase, titles: Sequence[str]) -> np.ndarray:
    """(titles,) bool: whether a model that says a title's tokens is understood to have said this title."""
    texts = decode(tokenizer, encode_titles(tokenizer, titles))
    return np.array([normalized(first_line(text)) == title for text, title in zip(texts, titles)], dtype=bool)


def unanswerable_line(titles: Sequence[str], said: np.ndarray) -> str:
    """How many titles no answer can match, the first ones by name; empty where there are none."""
    mute = np.flatnonzero(~said)
    if len(mute) == 0:
        return ""
    named = ", ".join(repr(titles[i]) for i in mute[:NAMED]) + (", ..." if len(mute) > NAMED else "")
    return f"{len(mute):,} of {len(said):,} titles can't be said with the model's tokens: {named}"


def check_answerable(tokenizer: PreTrainedTokenizerBase, titles: Sequence[str]) -> str:
    """`unanswerable_line`.

    Raises:
        UserError: more than `MUTE` of the titles can't be answered.
    """
    said = answerable(tokenizer, titles)
    line = unanswerable_line(titles, said)
    if (~said).mean() > MUTE:
        raise UserError(
            line,
            where=f"the tokenizer of model.path = {tokenizer.name_or_path}",
            hint="take a model with a byte-level tokenizer: Llama 3, Qwen, or --model.kind scratch",
        )
    return line
