"""What the fault tests share: the results of a sweep that nothing happens to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forked import Forked
from tests.support.nodes import ALL, PATIENCE, SWEEP, Nodes, shared_only
from tests.support.processes import CHECKOUT, environment
from tests.support.shared_store import alone


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Without Ray, in one process, on the disk; made once for all workers of the session."""
    own = tmp_path_factory.getbasetemp()
    home = (own if worker_id == "master" else own.parent) / "whole"
    with alone(home):
        if not (home / "made").exists():
            command = ["jobs/sweep_lambda.py", "--root", str(home / "root"), "--no-ray", *SWEEP, *ALL]
            job = Forked(command, environment(home), CHECKOUT, home / "said.log")
            said = job.said(PATIENCE)
            assert job.poll() == 0, said[-4000:]
            (home / "made").touch()
    return home / "root"


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """Its stages before the trials, where a disturbed sweep begins."""
    return shared_only(whole, tmp_path / "root")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Nodes(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def nodes(three: Nodes) -> Nodes:
    """The cluster, with as many nodes as at the start."""
    three.fill_up()
    return three
