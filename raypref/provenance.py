"""What produced a result: versions, git state, machine, command."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raypref.version import __version__

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray", "optuna", "numpy", "pandas", "pyarrow")

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the driver of a submitted job


def provenance() -> dict[str, Any]:
    """A JSON-ready account; costs nothing after the first call of a process but the time of day."""
    return {"time": datetime.now(timezone.utc).isoformat(timespec="seconds"), **_fixed()}


@functools.cache
def _fixed() -> dict[str, Any]:
    return {
        "command": _command(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"raypref": __version__, **{name: _version(name) for name in PACKAGES}},
        "git": _git_state(),
    }


def _command() -> str:
    """The command line; of a process that Ray started only that: the job's own is in the sweep's files."""
    name = Path(sys.argv[0]).name
    return "a process of Ray's" if name == "default_worker.py" else masked(" ".join([name, *sys.argv[1:]]))


def masked(text: str) -> str:
    """A text, such as a command line, without the passwords of addresses in it: `postgresql://me:***@db/optuna`."""
    return re.sub(r"(\w+://[^/\s:@]+:)[^/\s@]+@", r"\1***@", text)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """The commit, with `+changes` if the tree differs from it. A job's unpacked copy has none: it is passed."""
    if passed := os.environ.get("RAYPREF_GIT"):
        return passed
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")
