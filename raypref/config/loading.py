"""Preset < YAML file < command line, each override remembered with its origin."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from raypref.config.base import leaves, lookup, nested
from raypref.config.run import RunConfig
from raypref.errors import UserError

Section = TypeVar("Section", bound=BaseModel)


def presets() -> dict[str, Path]:
    """The presets that the package ships, by name."""
    folder = Path(str(importlib.resources.files("raypref"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; anything else is an error that names the line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"the config can't be read: {error.strerror}", where=str(path), hint="check the path"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", where=str(path), hint="correct that line") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            "the config is no mapping of keys to values", where=str(path), hint="write lines of `key: value`"
        )
    return content


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`. A section whose tag (kind, name, recommender) changes starts from its own defaults."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _other_variant(old, value):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def _other_variant(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return any(tag in new and new[tag] != old.get(tag) for tag in ("kind", "name", "recommender"))


def validated(section: type[Section], content: dict[str, Any], where: str) -> Section:
    """`content` as a `section`, or a UserError that lists every fault with its key."""
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UserError(plain_faults(error), where=where, hint="see --help for all keys") from None


def plain_faults(error: ValidationError) -> str:
    """Every fault of a config, a line each, with its dotted key."""
    faults = [f"  {_dotted(e['loc']) or '(top level)'}: {_plain(e)}" for e in error.errors()]
    return "the config has faults:\n" + "\n".join(faults)


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _plain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = repr(error["input"])
    return message if isinstance(error["input"], dict) or len(shown) > 60 else f"{message} (given: {shown})"


def load(preset: str, file: Path | None = None) -> tuple[RunConfig, dict[str, str]]:
    """The config of a preset and a YAML file over it, and the origin of each key that either sets."""
    content = read_yaml(lookup(preset, presets(), "preset"))
    origins = {key: f"preset {preset}" for key, _ in leaves(content)}
    where = f"preset {preset}"
    if file is not None:
        over = read_yaml(file)
        # Over the whole preset, defaults and all: a file may change one key of a section without naming its kind.
        content = merge(dump(validated(RunConfig, content, where)), over)
        origins |= {key: str(file) for key, _ in leaves(over)}
        where = str(file)
    return validated(RunConfig, content, where), origins


def override(config: RunConfig, changes: dict[str, Any], where: str) -> RunConfig:
    """`config` with dotted keys changed, e.g. `{"align.objective.lambda": 0.5}`."""
    content = dump(config)
    for key, value in changes.items():
        content = merge(content, nested(key, value))
    return validated(RunConfig, content, where)


def dump(config: BaseModel) -> dict[str, Any]:
    """JSON-ready content that `validated` reads back to the same config."""
    return config.model_dump(mode="json", by_alias=True)
