"""The table of rooms in CONTRIBUTING.md says what import-linter holds (pyproject.toml)."""

from __future__ import annotations

import re

from tests.support.processes import CHECKOUT


def test_the_table_has_the_rooms_in_the_order_that_lint_holds() -> None:
    contract = (CHECKOUT / "pyproject.toml").read_text().split("\nlayers = [", 1)[1].split("\n]", 1)[0]
    order = [re.findall(r"\w+", layer) for layer in reversed(contract.strip().splitlines())]
    lines = re.findall(r"^\| (`.*?) \|", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    shown = [name for line in lines for name in re.findall(r"`(\w+)(?:/|\.py)`", line) if name != "jobs"]
    place = {name: n for n, layer in enumerate(order) for name in layer}
    assert sorted(shown) == sorted(place)
    assert [place[name] for name in shown] == sorted(place.values())
