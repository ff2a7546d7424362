"""The commands that pages show: where each stands, and what it says it needs."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import CHECKOUT

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
MARKS = "gpu|network|cluster|data|time"
NEEDS = re.compile(rf"\s+# needs: ({MARKS})\b.*$")
PAGE_NEEDS = re.compile(rf"<!-- commands need: ({MARKS}) -->")
OURS = ("raypref", "python", "python3", "make", "pytest")
THEIRS = {"sbatch", "kubectl", "docker", "vllm", "hf", "curl", "pip", "ray", "prometheus", "optuna-dashboard"}
SHELL = {"printf", "cat", "cp", "tee", "ls", "sed", "head", "export", "git", "."}
"""What a shell has anywhere: nothing of ours to test."""
FENCE = re.compile(r"(<!-- run -->\n)?^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}.*)\n?)+", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:raypref|python|pytest|make) [^`]+)`(?!`)")
HERE = re.compile(r">\s*(\S+) <<'(\w+)'\n(.*?)^\2$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A command on a page."""

    page: str
    text: str
    """In one line, without comment and environment."""
    needs: str | None = None
    """gpu, network, cluster, data, or time (more than a test has); None: it runs anywhere."""
    where: str = "block"
    """run: in a block that a test runs as it stands; block: in another; inline: in running text."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def commands(page: Path) -> Iterator[Shown]:
    """The commands of a page: all lines of `sh` blocks, what begins with a tool's name in indented blocks, and what
    begins with one of ours in running text.
    """
    text = page.read_text(encoding="utf-8")
    whole = PAGE_NEEDS.search(text)
    fenced = [
        (body, "run" if run else "block") for run, language, body in FENCE.findall(text) if language in ("sh", "bash")
    ]
    rest = FENCE.sub("", text)
    indented = [(block, "block") for block in INDENTED.findall(rest)]
    inline = [(" ".join(found.split()), "inline") for found in INLINE.findall(INDENTED.sub("", rest))]
    for body, where in [*fenced, *indented, *inline]:
        strict = (body, where) in fenced
        for line in HERE.sub("", body).replace("\\\n", " ").splitlines():
            marked = NEEDS.search(line)
            needs = marked[1] if marked else (whole[1] if whole else None)
            for part in re.split(r"\s+(?:\|\||&&|\|)\s+|;\s*", _plain(NEEDS.sub("", line))):
                first = part.split(" ", 1)[0]
                if first and (strict or first in {*OURS, *THEIRS, *SHELL}):
                    yield Shown(page.name, part, needs, where)


def files_written(page: Path) -> dict[str, str]:
    """The files that a page's commands `cat > NAME <<'WORD'` and `cp docs/... NAME` leave, by name."""
    text = page.read_text(encoding="utf-8")
    copied = {
        name: (CHECKOUT / path).read_text() for path, name in re.findall(r"^cp (docs/\S+) (\S+)$", text, re.MULTILINE)
    }
    return copied | {name: content for name, _, content in HERE.findall(text)}


def _plain(line: str) -> str:
    """Without comment, substitution and leading variables."""
    line = re.sub(r"(^|\s)#.*$", "", line.strip())
    line = re.sub(r'"?\$\([^)]*\)"?', "PLACE", line)
    while found := re.match(r"[A-Z_]+=\S+\s+", line):
        line = line[found.end() :]
    return line.strip()
