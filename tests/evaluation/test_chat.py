"""ChatRec against a local server of the interface: what is sent, what is asked again, what is never asked twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raypref.config import RunConfig
from raypref.config.chat import ChatConfig
from raypref.errors import UserError
from raypref.evaluation.chat import ChatClient
from raypref.evaluation.metrics import means
from raypref.stages.chain import chain
from raypref.stages.in_process import InProcess
from raypref.storage.store import Store

KEY = "sk-a-secret"


class Server(ThreadingHTTPServer):
    """Answers by a script of (status, body); the last entry is repeated."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.pause = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.headers.append(dict(self.headers))
        time.sleep(self.server.pause)
        script = self.server.script
        status, content = script.pop(0) if len(script) > 1 else script[0]
        if callable(content):
            content = content(body)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status if self.path == "/v1/chat/completions" else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def said(text: str, prompt: int = 100, completion: int = 10) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def client(server: Server, cache: Path, **settings: Any) -> ChatClient:
    return ChatClient(ChatConfig(url=server.url, wait_s=0.001, **settings), cache)


def test_what_is_sent_and_what_comes_back(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    server.script = [(200, said("\n Red Hill \nBecause ..."))]
    ask = client(server, tmp_path, key_variable="SOME_KEY", model="m", max_tokens=7)
    assert ask("Which one?") == "Red Hill"
    (body,) = server.asked
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"] == "Which one?"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_without_a_key_none_is_sent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.script = [(200, said("A"))]
    client(server, tmp_path)("?")
    assert "Authorization" not in server.headers[0]


def test_an_answer_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    server.script = [(200, said("A")), (200, said("B"))]
    assert client(server, tmp_path)("?") == "A"
    assert client(server, tmp_path)("?") == "A"
    assert len(server.asked) == 1
    assert client(server, tmp_path, model="another")("?") == "B"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    server.script = [(status, {}), (status, b"no json"), (200, said("A"))]
    assert client(server, tmp_path)("?") == "A"
    assert len(server.asked) == 3


def test_a_slow_answer_times_out_and_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.script, server.pause = [(200, said("A"))], 0.5
    with pytest.raises(UserError, match="did not answer in 2 attempts"):
        client(server, tmp_path, timeout_s=0.05, retries=1)("?")
    server.pause = 0
    assert client(server, tmp_path)("?") == "A"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    ask = ChatClient(ChatConfig(url="http://127.0.0.1:9/v1", retries=1, wait_s=0), tmp_path)
    with pytest.raises(UserError, match="did not answer"):
        ask("?")
    assert ask.requests == 2


@pytest.mark.parametrize(
    ("status", "content", "complaint"),
    [
        (401, {"error": {"message": "bad key"}}, "set the environment variable OPENAI_API_KEY"),
        (400, {"error": {"message": "no such model"}}, "no such model"),
        (200, {"choices": []}, "holds no choices"),
        (200, {"choices": [{"message": None}]}, "holds no choices"),
        (200, b"<html>", "no JSON"),
    ],
)
def test_what_will_not_pass_is_said_at_once(
    server: Server, tmp_path: Path, status: int, content: Any, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script = [(status, content)]
    with pytest.raises(UserError) as caught:
        client(server, tmp_path)("?")
    assert complaint in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1
    assert not list(tmp_path.rglob("*.json"))


def test_the_cap_holds_and_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    """An answer costs 100 x 10 + 10 x 20 dollars a million = 0.0012; no more than three go under 0.005."""
    server.script = [(200, said("A"))]
    prices = {"price_input": 10.0, "price_output": 20.0, "max_tokens": 20, "system": ""}
    ask = client(server, tmp_path, spend_cap=0.005, **prices)
    with pytest.raises(UserError, match="are spent") as caught:
        [ask(f"{number} {'x' * 300}") for number in range(10)]
    assert "chat.spend_cap" in caught.value.where
    assert ask.spent <= 0.005
    first = len(server.asked)
    assert 2 <= first <= 4
    again = client(server, tmp_path, spend_cap=1.0, **prices)
    for number in range(10):
        again(f"{number} {'x' * 300}")
    assert len(server.asked) == 10
    assert again.spent == pytest.approx((10 - first) * 0.0012)


def test_an_empty_answer_is_no_answer(server: Server, tmp_path: Path) -> None:
    server.script = [(200, said(""))]
    assert client(server, tmp_path)("?") == ""


def picks(place: int) -> Any:
    """Answers with the candidate at a place of the list, read from the prompt itself."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        lines = body["messages"][1]["content"].strip().splitlines()
        return said(lines[-9:-1][place])

    return answer


def test_it_is_a_system_of_a_run(server: Server, tmp_path: Path) -> None:
    server.script = [(200, picks(2))]
    config = RunConfig.model_validate(
        {
            "system": "chatrec",
            "chat": {"url": server.url},
            "data": {
                "source": {"kind": "generated", "users": 40, "items": 80, "mean_length": 12},
                "k_core": 1,
                "candidates": {"train_future": 4, "train_random": 4, "eval_random": 7},
            },
            "evaluation": {"splits": ["test", "aversion"]},
            "resources": {"engine": "torch"},
        }
    )
    store, plan = Store(tmp_path), chain(config)
    for stage in plan:
        InProcess(store)(plan, stage)
    rows = pq.read_table(store.path(plan.evaluate.address) / "rows.parquet")
    assert set(rows["answered"].to_pylist()) == {2}
    assert rows["rank"].null_count == rows.num_rows
    test = rows.filter(rows["split"].combine_chunks().to_numpy(zero_copy_only=False) == "test")
    found = means(test)
    assert found["generated_hr@1"] == pytest.approx(sum(t == 2 for t in test["target"].to_pylist()) / test.num_rows)
    assert found["valid_ratio"] == 1
    assert not any(name.startswith("exact") for name in found)
    assert any("least" in body["messages"][1]["content"] for body in server.asked)


def test_an_address_is_http() -> None:
    with pytest.raises(ValueError, match="must start with http"):
        ChatConfig(url="ftp://x")
    assert ChatConfig(url="https://x/v1/").url == "https://x/v1"
