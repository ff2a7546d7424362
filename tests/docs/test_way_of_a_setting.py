"""The table of docs/concepts.md is λ's way: at most twelve files, from room to lower room, each known to one before."""

from __future__ import annotations

import re

from tests.support.processes import CHECKOUT

CALLED_BY_NAME = {"objectives/losses.py"}
"""What is looked up in a dict (`OBJECTIVES`), and so imported by another file than the one that calls it."""


def way() -> list[str]:
    section = (
        (CHECKOUT / "docs" / "concepts.md").read_text().split("## The way of a setting", 1)[1].split("\n## ", 1)[0]
    )
    return re.findall(r"^\| `(\w+/\w+\.py)` \|", section, re.MULTILINE)


def test_it_is_short_and_never_turns() -> None:
    contract = (CHECKOUT / "pyproject.toml").read_text().split("\nlayers = [", 1)[1].split("\n]", 1)[0]
    place = {name: n for n, layer in enumerate(contract.splitlines()) for name in re.findall(r"\w+", layer)}
    files = way()
    assert 8 <= len(files) == len(set(files)) <= 12
    rooms = [place[file.split("/")[0]] for file in files]
    assert rooms == sorted(rooms)


def test_each_file_is_known_to_one_before_it() -> None:
    files = way()
    for n, file in enumerate(files[1:], start=1):
        module = file.removesuffix(".py").replace("/", ".")
        room, _, name = module.rpartition(".")
        known = re.compile(rf"from raypref\.({re.escape(module)} import|{room} import [^\n]*\b{name}\b)")
        before = [other for other in files[:n] if known.search((CHECKOUT / "raypref" / other).read_text())]
        after = file == "sweeps/queue.py"  # which makes trials, and is made by the sweep
        assert before or after or file in CALLED_BY_NAME, f"no file before {file} imports it"
