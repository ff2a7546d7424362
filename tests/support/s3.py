"""Amazon's S3 as moto's server plays it on this machine: failing requests, slow answers, an outage."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

BUCKET = "results"
ROOT = f"s3://{BUCKET}/raypref"
ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>injected</Message></Error>"


class Troubled:
    """S3 that fails a share of its requests, answers some late, and can go away for a while."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self.inner = DomainDispatcherApplication(create_backend_app)
        self.failing = self.slow = 0.0
        self.away = False
        self.asked = self.failed = 0
        self.chance = random.Random(0)

    def __call__(self, asked: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.asked += 1
        if self.away or self.chance.random() < self.failing:
            self.failed += 1
            asked["wsgi.input"].read(int(asked.get("CONTENT_LENGTH") or 0))
            start(
                "500 Internal Server Error", [("Content-Type", "application/xml"), ("Content-Length", str(len(ERROR)))]
            )
            return [ERROR]
        if self.chance.random() < self.slow:
            time.sleep(1)
        answer: Iterable[bytes] = self.inner(asked, start)
        return answer


@contextlib.contextmanager
def served_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubled]:
    """S3 with an empty bucket; this process and those that it starts find it by their environment."""
    from werkzeug.serving import make_server

    application = Troubled()
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    import boto3

    boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
    try:
        yield application
    finally:
        server.shutdown()
