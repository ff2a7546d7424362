"""Where a training worker begins: its table is read while the libraries are imported, which takes seconds too."""

from __future__ import annotations

from typing import Any

from raypref.stages.stream import begin


def work(arguments: dict[str, Any]) -> None:
    """A Ray Train worker, see `remote.work`; `arguments["early"]`: whether its table is small."""
    if arguments["early"]:
        begin(arguments["table"])
    from raypref.stages import remote

    remote.work(arguments)
