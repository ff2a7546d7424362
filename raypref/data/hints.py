"""Hints that name options exactly, for the command line and for a YAML file alike."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from raypref.config.base import leaves


def options(source: dict[str, Any], data: dict[str, Any] | None = None) -> str:
    """Keys of data.source (and of data) as options and as the same lines of YAML, e.g.

    `--data.source.rating None (in YAML: data: {source: {rating: null}})`
    """
    content = {"data": ({"source": source} if source else {}) | (data or {})}
    words = [word for key, value in leaves(content) for word in _words(f"--{key}", value)]
    flow = yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True).strip()
    return f"{' '.join(words)} (in YAML: {flow.removeprefix('{').removesuffix('}')})"


def _words(option: str, value: Any) -> list[str]:
    option = option.replace("_", "-")
    if isinstance(value, list):
        return [option, *(shlex.quote(str(v)) for v in value)]
    if isinstance(value, str) and value.startswith("-"):  # else it would be read as an option itself
        return [f"{option}={shlex.quote(value)}"]
    return [option, shlex.quote(str(value))]
