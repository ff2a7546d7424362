"""The version: what pyproject.toml, `raypref --version` and every record read."""

__version__ = "0.1.0"
