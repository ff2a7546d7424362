"""A chat model's own frame around a prompt: what its template writes before the user's message, and after it."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from raypref.errors import UserError

MESSAGE = "THE-MESSAGE-OF-THE-USER"  # stands for the prompt while a template is rendered; no template holds it


@dataclass(frozen=True)
class ChatFrame:
    """Tokens around the user's message, up to where the assistant's answer begins."""

    before: tuple[int, ...]
    """The begin token where the model has one, a system message where the template brings one, the user's header."""
    after: tuple[int, ...]


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> ChatFrame | None:
    """The frame of a tokenizer's chat template; None where it has none.

    The frame is made of the template's text, whose special tokens are tokens; the message is tokenized apart, so that
    what a title is called can't end a turn.

    Raises:
        UserError: the template can't be rendered with one message of a user, or changes it.
    """
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": MESSAGE}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ValueError, TypeError) as error:
        raise _no_frame(tokenizer, str(error)) from error
    before, found, after = text.partition(MESSAGE)
    if not found or MESSAGE in after:
        raise _no_frame(tokenizer, "the user's message does not stand in it once")
    parts = tokenizer([before, after], add_special_tokens=False, split_special_tokens=False)["input_ids"]
    return ChatFrame(tuple(parts[0]), tuple(parts[1]))


def _no_frame(tokenizer: PreTrainedTokenizerBase, why: str) -> UserError:
    return UserError(
        f"the model's chat template can't be used: {why}",
        where=f"model.path = {tokenizer.name_or_path}",
        hint="run it with --prompt.no-chat",
    )
