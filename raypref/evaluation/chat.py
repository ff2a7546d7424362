"""ChatRec: a chat model over HTTP, with time-outs, retries, a spend cap and a disk cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raypref.config.chat import ChatConfig
from raypref.data.prompts import PromptRenderer
from raypref.data.splitting import LEAST
from raypref.errors import UserError
from raypref.evaluation.decoding import first_line
from raypref.evaluation.rows import match_answers, rows_of
from raypref.storage.store import write_json

PASSING = (408, 409, 425, 429, 500, 502, 503, 504)  # HTTP states that may pass
MOST_WAIT_S = 60.0
CHARACTERS = 3  # a prompt has at most about so many tokens as a third of its characters: for the cap, before a request
MILLION = 1e6


class ChatClient:
    """Asks one question at a time; an answer is asked for once and then read from `cache`."""

    def __init__(self, config: ChatConfig, cache: Path) -> None:
        self.config, self.cache = config, cache
        self.spent = 0.0
        self.requests = 0

    def __call__(self, prompt: str) -> str:
        """The first line of the answer.

        Raises:
            UserError: the endpoint refuses, does not answer, or answers no such thing; the cap would be passed.
        """
        c = self.config
        messages = [{"role": "system", "content": c.system}, {"role": "user", "content": prompt}]
        body = {"model": c.model, "messages": messages, "max_tokens": c.max_tokens, "temperature": 0}
        path = self._path(body)
        if path.is_file():
            return first_line(str(json.loads(path.read_text(encoding="utf-8"))["answer"]))
        self._check_cap(len(prompt) + len(c.system))
        answer, usage = self._answer(self._post(json.dumps(body).encode()))
        used = [usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")]
        self.spent += (used[0] * c.price_input + used[1] * c.price_output) / MILLION
        write_json(path, {"answer": answer, "usage": usage, "model": c.model})
        return first_line(answer)

    def _path(self, body: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([self.config.url, body], sort_keys=True).encode()).hexdigest()
        return self.cache / key[:2] / f"{key[2:34]}.json"

    def _check_cap(self, characters: int) -> None:
        c = self.config
        worst = (characters / CHARACTERS * c.price_input + c.max_tokens * c.price_output) / MILLION
        if self.spent + worst > c.spend_cap:
            raise UserError(
                f"the next request may cost {worst:.4f} US dollars, and {self.spent:.4f} of {c.spend_cap:g} are spent",
                where="chat.spend_cap",
                hint="raise it and run the same command: answers so far are kept",
            )

    def _post(self, body: bytes) -> Any:
        c = self.config
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(c.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{c.url}/chat/completions", data=body, headers=headers, method="POST")
        for attempt in range(c.retries + 1):
            self.requests += 1
            asked: str | None = None
            try:
                with urllib.request.urlopen(request, timeout=c.timeout_s) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                fault, asked = f"HTTP {error.code} {_reason(error)}", error.headers.get("Retry-After")
                if error.code not in PASSING:
                    raise self._refused(fault, error.code) from None  # its request holds the key
            except (OSError, TimeoutError) as error:
                fault = str(getattr(error, "reason", error)) or type(error).__name__
            except ValueError as error:
                raise self._refused(f"no JSON: {error}", 0) from None
            if attempt < c.retries:
                time.sleep(_wait(c.wait_s * 2**attempt, asked))
        raise UserError(
            f"the chat endpoint did not answer in {c.retries + 1} attempts: {fault}",
            where=f"chat.url = {c.url}",
            hint="check the address, or raise chat.timeout_s or chat.retries; answers so far are kept",
        )

    def _refused(self, fault: str, code: int) -> UserError:
        hint = "check chat.model and the endpoint's rules"
        if code in (401, 403):
            hint = f"set the environment variable {self.config.key_variable} to a valid key"
        return UserError(f"the chat endpoint refused: {fault}", where=f"chat.url = {self.config.url}", hint=hint)

    def _answer(self, content: Any) -> tuple[str, dict[str, Any]]:
        try:
            text = content["choices"][0]["message"]["content"]
            return str(text or ""), dict(content.get("usage") or {})
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._refused("its answer holds no choices[0].message.content", 0) from None


def ask_chat(
    client: ChatClient,
    render: PromptRenderer,
    titles: Sequence[str],
    tables: Iterable[pa.Table],
    split: str,
    counts: np.ndarray,
) -> Iterator[pa.Table]:
    """Ask a chat model about a split's tables (columns of prepare), and keep its answers; it gives no scores."""
    names = np.array(titles, dtype=object)
    for table in tables:
        answers, shown = [], []
        for row in table.select(["example", "history", "history_rating", "candidates"]).to_pylist():
            shown.append(names[row["candidates"]])
            history = names[row["history"]] if row["history"] else []
            prompt = render(row["example"], history, row["history_rating"], shown[-1], least=split in LEAST)
            answers.append(client(prompt))
        yield rows_of(table, split, None, counts, **match_answers(answers, shown))


def _wait(planned: float, asked: str | None) -> float:
    try:
        return min(MOST_WAIT_S, max(planned, float(asked or 0)))
    except ValueError:  # a date
        return min(MOST_WAIT_S, planned)


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says of its refusal, shortened."""
    try:
        content = json.loads(error.read())
        return str(content["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)
