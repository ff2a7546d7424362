"""The order of rooms in CONTRIBUTING.md: a room imports those before it, or its own line's."""

from __future__ import annotations

import ast
import re

from tests.support.processes import CHECKOUT

PACKAGE = CHECKOUT / "raypref"
TABLE = re.compile(r"^\| (`.*?) \|", re.MULTILINE)


def order() -> dict[str, int]:
    """The line of the table in which each room stands, by its name without `/` and `.py`."""
    lines = TABLE.findall((CHECKOUT / "CONTRIBUTING.md").read_text())
    return {name: n for n, line in enumerate(lines) for name in re.findall(r"`(\w+)(?:/|\.py)`", line)}


def room(path: str) -> str:
    return path.split(".")[1] if "." in path else ""


def test_a_room_imports_those_before_it() -> None:
    places, wrong = order(), []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":  # its names are imported when they are asked for
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raypref."):
                other = room(node.module or "")
                if places[other] > places[own]:
                    wrong.append(f"{path.relative_to(CHECKOUT)} imports {node.module}")
    assert wrong == []


def test_every_room_stands_in_the_table() -> None:
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__", "base", "presets"} <= set(order())
