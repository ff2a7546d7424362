"""Runs a page's commands: `python docs/scripts/run_page.py docs/tutorial.md` does what the page shows, block by block.

Run are the blocks after `<!-- run -->`, in their order, in one folder that has the checkout's jobs, sweeps and docs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)\n```", re.DOTALL)
LINKED = ("jobs", "sweeps", "docs")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language (sh or python) and text of each block that is to be run."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in a folder, saying each.

    Raises:
        subprocess.CalledProcessError: a block failed.
    """
    for name in LINKED:
        if not (folder / name).exists():
            (folder / name).symlink_to(CHECKOUT / name)
    environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for language, text in blocks(page):
        print(f"\n--- {page.name}\n{text}\n---", flush=True)
        started = time.monotonic()
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        print(f"--- {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("build/pages"), help="where to run them")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for page in args.pages:
        run_page(page, args.folder)


if __name__ == "__main__":
    main()
