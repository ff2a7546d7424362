"""Which cluster a job connects to; without starting one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raypref.cluster import connect as module


@pytest.mark.parametrize(("named", "address"), [(None, "local"), ("127.0.0.1:6379", None)])
def test_only_the_named_cluster_is_joined(
    monkeypatch: pytest.MonkeyPatch, named: str | None, address: str | None
) -> None:
    """Ray alone would also join what a `ray start` of this machine left in a file, be it dead."""
    asked: list[dict[str, Any]] = []
    connected = SimpleNamespace(is_initialized=lambda: False, init=lambda **options: asked.append(options))
    monkeypatch.setattr(module, "ray", connected)
    monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    if named is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", named)
    module.connect(verbose=True)
    assert [options.get("address") for options in asked] == [address]
