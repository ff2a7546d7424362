"""Every fault that docs/reliability.md lists has a test, under the name that the page says."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import CHECKOUT

PAGE = (CHECKOUT / "docs/reliability.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| fault ")]
FAULTS_ON_RAY = "tests/cluster/test_faults_on_ray.py"
ASKED_FOR = """training worker, a trial's own process, a node, the head, disk full, object store, out of memory,
    NaN loss, damaged checkpoint, damaged Parquet block, a hanging worker, spot notice, a stopped job"""


def text_of(name: str) -> str:
    """A test module, and the support that its parameters come from."""
    parts = (CHECKOUT / name, CHECKOUT / "tests/support/nodes.py")
    return "".join(part.read_text() for part in parts if part.is_file())


def test_every_fault_has_its_row() -> None:
    listed = [row.split("|")[1].strip() for row in ROWS]
    for fault in (name.strip() for name in ASKED_FOR.split(",")):
        assert any(name.startswith(fault) for name in listed), fault


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_its_command_finds_a_test(row: str) -> None:
    tests = re.findall(r"`([^`]+)`", row.split("|")[-2])
    assert tests
    for test in tests:
        path, _, chosen = test.partition("-k ")
        text = text_of(path.strip() or FAULTS_ON_RAY)
        assert text, path
        words = [word for word in chosen.strip('" ').split(" and ") if word]
        assert all(word in text for word in words), words
        names = [word for word in words if word.islower()]  # the others are of parameters
        functions = re.findall(r"def (test_\w+)", text)
        assert any(all(name in function for name in names) for function in functions), names
