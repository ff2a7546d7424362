"""Whether two commits compute the same numbers, to the bit, on this machine.

    python tests/trajectory/compare.py                # HEAD~1 and HEAD
    python tests/trajectory/compare.py COMMIT [COMMIT] [--kinds full-1 ...]

Runs the small runs of `runs.py`, as it lies beside this file, in a checkout of each commit in a temporary folder, and
compares all that their stages leave: data, tokens, training logs, validations, weights, scores of each user. A commit
that should move no number says what this prints: "equal to the bit". The exit code is 1 where they differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from differences import Recording, first_difference
from runs import HERE, KINDS, take


def compare(before: str, after: str, kinds: list[str]) -> int:
    """Run both commits and say where they differ first; the exit code."""
    with tempfile.TemporaryDirectory(prefix="trajectory-") as folder:
        recorded = [recording(commit, Path(folder, str(n)), kinds) for n, commit in enumerate((before, after))]
    found = first_difference(*recorded)
    print(f"{before} and {after}: {found or 'equal to the bit'}")
    return int(found is not None)


def recording(commit: str, folder: Path, kinds: list[str]) -> Recording:
    """What the runs of a commit leave."""
    tree = folder / "tree"
    git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    try:
        return take(folder / "runs", tree, kinds)
    finally:
        git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", nargs="?", default="HEAD~1")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args(arguments)
    return compare(given.before, given.after, given.kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
