"""What every part of a config shares: frozen, strict, and helpful about a typo."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from raypref.errors import UserError


class Frozen(BaseModel):
    """A config section: immutable, with unknown keys refused and the nearest known key suggested."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            known = set(cls.model_fields) | {f.alias for f in cls.model_fields.values() if f.alias}
            for key in values:
                if key not in known:
                    raise ValueError(unknown_key(str(key), known))
        return values


def variants(union: Any, tag: str) -> dict[str, type[Any]]:
    """The classes of a tagged union, `Annotated[A | B ..., ...]`, by their tag."""
    return {cls.model_fields[tag].default: cls for cls in get_args(get_args(union)[0])}


def tagged_unions(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, dict[str, type[Any]]]]:
    """Dotted key of each tag of a config, e.g. `baseline.recommender`, and the sections it chooses among, by name."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if _is_section(part)]
        if field.discriminator is not None:
            tag = str(field.discriminator)
            yield f"{key}.{tag}", {part.model_fields[tag].default: part for part in parts}
        for part in parts:
            yield from tagged_unions(part, f"{key}.")


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def nested(key: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": value}}` for `a.b`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return {**value}


def unknown_key(key: str, known: set[str]) -> str:
    """A one-line complaint about `key`, with the closest of `known` or the whole list."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else "known keys: " + ", ".join(sorted(known))
    return f"unknown key '{key}': {hint}"


def lookup(name: str, known: dict[str, Any], what: str) -> Any:
    """Look up `known[name]`, or raise a UserError that names the nearest choice."""
    if name in known:
        return known[name]
    raise UserError(f"no {what} is called '{name}'", hint=unknown_key(name, set(known)).split(": ", 1)[1])


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
