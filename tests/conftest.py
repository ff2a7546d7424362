"""What all tests share: one thread for torch, no network for Hugging Face, a store of tiny runs."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a missing model must fail at once
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that a test starts have more threads: one that waits would spin on a core that another process needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from raypref.storage.store import Store


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Store:
    """One store for all workers of the session; tests.support.shared_store fills it, and copies from it."""
    own = tmp_path_factory.getbasetemp()
    return Store((own if worker_id == "master" else own.parent) / "shared-store")
