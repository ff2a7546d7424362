"""What all tests share: one thread for torch, no network for Hugging Face, a store of tiny runs."""

from __future__ import annotations

import os
from collections import Counter

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


LONGEST = (
    "tests/trajectory/test_trajectory.py",
    "tests/results/test_figures.py",
    "tests/training/test_engines.py",
    "tests/objectives/test_global_batch.py",
    "tests/training/test_loop.py",
    "tests/stages/test_export_model.py",
    "tests/jobs/test_benchmark_job.py",
)
"""Files that take longest begin first, and the others by their number of tests: else a worker ends alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by what they take; within a file nothing moves."""
    files = [item.nodeid.partition("::")[0] for item in items]
    tests = Counter(files)
    rank = {name: (LONGEST.index(name) if name in LONGEST else len(LONGEST), -tests[name], name) for name in tests}
    items[:] = [item for _, item in sorted(zip(files, items, strict=True), key=lambda pair: rank[pair[0]])]
