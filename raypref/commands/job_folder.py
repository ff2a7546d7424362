"""What of a folder goes with a submitted job: Python, YAML and raypref itself, with paths that hold where it runs."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from raypref.config.loading import read_yaml
from raypref.errors import UserError

logger = logging.getLogger(__name__)

CODE = (".py", ".yaml", ".yml", ".toml")
PACKAGE = "raypref"
"""Folder that is sent whole, if it lies here: the small model in it is no code."""
# What is not sent, beside what git ignores: data, models and results are read where they lie.
LEFT_HERE = ["/data/", "/models/", "/adapted/", "/results/", "/.git/"]
IGNORED = ".rayignore"
NEVER = {"__pycache__", "node_modules", "site-packages"}
SOURCES = ("--data.source.path", "--data.source.items", "--transfer.source.path", "--transfer.source.items")
OPTIONS = ("--root", "--model.path", "--model.base.path", *SOURCES, "--align.objective.file", "--write")
MADE = ("--root", "--write")
"""Options of what the job makes: it need not be there yet."""
KEYS = ("path", "items", "file")
"""Last parts of the config's keys that hold a path."""
CONFIG = "submitted.yaml"
"""Name in the job's folder of a config that lies elsewhere."""


@contextlib.contextmanager
def job_folder(scripts: tuple[Path, ...], arguments: list[str], here: bool) -> Iterator[tuple[Path, list[str]]]:
    """A copy of what of this folder a job needs, and its arguments with paths that hold there; deleted afterwards.

    Args:
        here: the job runs on this machine, and so can read and write where this command can.

    Raises:
        UserError: it runs on a cluster, which has no such relative path.
    """
    told = located(arguments, here)
    with tempfile.TemporaryDirectory(prefix="raypref-job-") as made:
        folder, size = Path(made), 0
        files = sent_files(Path())
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file)
            size += file.stat().st_size
        for script in scripts:
            sweep = script.parent.parent / "sweeps" / f"{script.stem}.yaml"
            if sweep in files:
                _write(folder / sweep, read_yaml(sweep), sweep, here)
        told = _with_config(told, files, folder, here)
        logger.info(
            "the job gets %d files, %.1f MB, of this folder: Python, YAML and raypref itself; data, models, results "
            "and all else stay where they are",
            len(files),
            size / 1e6,
        )
        yield folder, told


def sent_files(folder: Path) -> list[Path]:
    """Files that go with a job, relative to `folder`: code, and the package whole; nothing that git ignores."""
    left = {name.strip("/") for name in LEFT_HERE}
    found = []
    for file in _not_ignored(folder):
        first = file.parts[0]
        hidden = any(part.startswith(".") or part in NEVER for part in file.parts[:-1])
        if first in left or hidden or not (folder / file).is_file():
            continue
        if file.suffix in CODE or file == Path(IGNORED) or (first == PACKAGE and len(file.parts) > 1):
            found.append(file)
    return found


def _not_ignored(folder: Path) -> list[Path]:
    """Files that git has, or would take, less those that .rayignore names; all of them where there is no git."""
    listed = _listed_by_git(folder, "--exclude-standard")
    if listed is not None:
        if (folder / IGNORED).is_file():
            listed -= _listed_by_git(folder, "--ignored", f"--exclude-from={IGNORED}") or set()
        return sorted(listed)
    found: list[Path] = []
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in NEVER]
        found += [(Path(path) / name).relative_to(folder) for name in names]
    return sorted(found)


def _listed_by_git(folder: Path, *options: str) -> set[Path] | None:
    command = ["git", "ls-files", "-z", "--cached", "--others", *options]
    try:
        listed = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # there is no git, or the folder is none of its
        return None
    return {Path(os.fsdecode(name)) for name in listed.split(b"\0") if name}


def located(arguments: list[str], here: bool) -> list[str]:
    """A job's arguments with absolute paths: it runs in a copy of this folder, which Ray deletes after it."""
    found = list(arguments)
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if (option := name.replace("_", "-")) not in OPTIONS:
            continue
        at = i if equals else i + 1
        value = value if equals else (arguments[at] if at < len(arguments) else "")
        path = _absolute(value, name, here, made=option in MADE)
        found[at : at + 1] = [f"{name}={path}" if equals else path] if value else found[at : at + 1]
    return found


def _absolute(value: str, where: str, here: bool, made: bool = False) -> str:
    """A path, or a GGUF file's parts with commas between, as it is understood from elsewhere."""
    paths = [Path(part).expanduser() for part in value.split(",")]
    if not value or "://" in value or all(path.is_absolute() for path in paths):
        return value
    if not made and not all(path.exists() for path in paths):  # a name of the hub, or tried under $RAYPREF_DATA
        return value
    if here:
        return ",".join(str(path.absolute()) for path in paths)
    if not made and all(path.suffix in CODE and not path.is_absolute() and ".." not in path.parts for path in paths):
        return value  # it is sent
    raise UserError(
        f"{value} is a path of this folder, of which the cluster gets a copy without data, models and results",
        where=where,
        hint="give an absolute path that all nodes share, or the address of an object store (--root s3://...)",
    )


def _with_config(arguments: list[str], files: list[Path], folder: Path, here: bool) -> list[str]:
    """The arguments, once the config that they name lies in the job's folder, its paths absolute."""
    told = list(arguments)
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config" or not (equals or i + 1 < len(arguments)):
            continue
        file = Path(value if equals else arguments[i + 1])
        inside = Path(os.path.normpath(file)) in files
        _write(folder / (file if inside else CONFIG), read_yaml(file), file, here)
        if not inside:
            told[i : i + (1 if equals else 2)] = [f"--config={CONFIG}"] if equals else ["--config", CONFIG]
    return told


def _write(file: Path, content: dict[str, Any], where: Path, here: bool) -> None:
    located = _with_absolute_paths(content, str(where), here)
    if located != content or not file.is_file():
        file.write_text(yaml.safe_dump(located, sort_keys=False, allow_unicode=True))


def _with_absolute_paths(content: Any, where: str, here: bool, key: str = "") -> Any:
    """A config, or a sweep's space, with absolute paths."""
    if isinstance(content, dict):
        return {k: _with_absolute_paths(v, where, here, f"{key}.{k}" if key else str(k)) for k, v in content.items()}
    if isinstance(content, list):
        return [_with_absolute_paths(each, where, here, key) for each in content]
    if isinstance(content, str) and key.rsplit(".", 1)[-1] in KEYS:
        return _absolute(content, f"{where}: {key}", here)
    return content
