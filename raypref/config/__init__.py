"""Configs: pydantic, frozen, unknown keys refused. `RunConfig` is one run, whole."""

from __future__ import annotations

from raypref.config.run import RunConfig

__all__ = ["RunConfig"]
