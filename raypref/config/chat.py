"""A chat model behind an endpoint that speaks OpenAI's chat-completions interface."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from raypref.config.base import Frozen

Count = Annotated[int, Field(ge=1)]
Dollars = Annotated[float, Field(ge=0)]


class ChatConfig(Frozen):
    """ChatRec: the prompt is put to a chat model as it is (Gao et al. 2023). The key comes from the environment."""

    url: str = "http://127.0.0.1:8000/v1"
    """The endpoint's base address; /chat/completions is added."""
    model: str = "default"
    """The model's name, as the endpoint knows it."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; where it is not set none is sent. A key is never written anywhere."""
    system: str = "You recommend items. Answer with one title of the list, exactly as it is written, and nothing else."
    """The system message."""
    max_tokens: Count = 64
    """Tokens of an answer, at most."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a request may take."""
    retries: Annotated[int, Field(ge=0)] = 4
    """How often a request is repeated that timed out, was refused for its rate, or met a server's fault."""
    wait_s: Annotated[float, Field(ge=0)] = 1.0
    """Seconds before the first repetition; each further one waits twice as long, or what the server asks for."""
    price_input: Dollars = 0.0
    """US dollars for a million prompt tokens."""
    price_output: Dollars = 0.0
    """US dollars for a million answer tokens."""
    spend_cap: Dollars = 1.0
    """US dollars that a run may spend; answers that are cached already cost nothing."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the address must start with http:// or https://")
        return url.rstrip("/")
