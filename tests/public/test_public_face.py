"""`import raypref`: what the docs use from Python and nothing else, typed, and quick."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import raypref
from tests.support.processes import CHECKOUT

PAGES = [*sorted((CHECKOUT / "docs").glob("*.md")), CHECKOUT / "README.md"]
PYTHON = re.compile(r"```python\n(.*?)```|<<'PY'\n(.*?)\nPY\n", re.DOTALL)
CPU_SECONDS = 0.2


def imported() -> set[str]:
    """`module:name` of everything of raypref that Python on a page imports."""
    found = set()
    for page in PAGES:
        for block in PYTHON.finditer(page.read_text()):
            for node in ast.walk(ast.parse(block[1] or block[2])):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "raypref":
                    found |= {f"{node.module}:{alias.name}" for alias in node.names}
    return found


def test_docs_import_from_the_public_face_alone() -> None:
    modules = {each.partition(":")[0] for each in imported()}
    assert modules == {"raypref", "raypref.testing"}


def test_the_face_is_what_docs_use() -> None:
    """In a block of Python, or named on a page as `raypref.NAME`."""
    text = "\n".join(page.read_text() for page in PAGES)
    used = {name for name in raypref.__all__ if f"raypref:{name}" in imported() or f"`raypref.{name}`" in text}
    assert used == set(raypref.__all__)


def test_each_name_is_typed_and_lazily_found() -> None:
    tree = ast.parse(Path(raypref.__file__).read_text())
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == raypref._ORIGINS
    assert sorted(typed) == sorted(raypref.__all__)
    assert (CHECKOUT / "raypref" / "py.typed").is_file()
    for name in raypref.__all__:
        assert getattr(raypref, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        _ = raypref.sweeep


def test_importing_it_takes_no_time_and_no_torch() -> None:
    program = (
        "import sys, time; before = time.process_time(); import raypref; spent = time.process_time() - before; "
        "print(spent, [name for name in ('torch', 'numpy', 'pydantic', 'tyro', 'ray') if name in sys.modules])"
    )
    spent, _, heavy = subprocess.check_output([sys.executable, "-c", program], text=True).strip().partition(" ")
    assert heavy == "[]"
    assert float(spent) < CPU_SECONDS


def test_one_version() -> None:
    assert '\nversion = {attr = "raypref.version.__version__"}\n' in (CHECKOUT / "pyproject.toml").read_text()
    said = subprocess.check_output([sys.executable, "-m", "raypref.cli", "--version"], text=True)
    assert said == f"raypref {raypref.__version__}\n"
    assert f"\n## {raypref.__version__}\n" in (CHECKOUT / "CHANGELOG.md").read_text()
