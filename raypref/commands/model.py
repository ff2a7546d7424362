"""The functions behind `raypref model ...`: list, fetch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from raypref.config.base import pick
from raypref.models.folders import SHIPPED
from raypref.models.gguf_source import KNOWN, gguf_model, made, names_gguf
from raypref.storage.store import Store
from raypref.sweeps.options import default_root

Name = Annotated[str, tyro.conf.Positional]


def list_models(root: str | None = None, console: tyro.conf.Suppress[Console | None] = None) -> None:
    """List the language models that raypref knows by name, and which of them are here.

    Args:
        root: folder of all results, where models are kept too; default: $RAYPREF_ROOT, else ~/raypref-results.
    """
    store = Store(root or default_root())
    table = Table("name", "model", "licence", "to fetch", "here")
    table.add_row(SHIPPED, "a Llama of 0.9 million parameters that the package ships", "Apache-2.0", "", "yes")
    for name, known in KNOWN.items():
        model = gguf_model(name)
        here = "yes" if model is not None and store.done(model.address) else ""
        table.add_row(name, known.title, known.licence, f"{known.wheel_mb} MB", here)
    console = console or Console()
    console.print(table)
    console.print("Each is a name for --model.path, as is a hub name, a folder, or any GGUF file.")


def fetch(name: Name, root: str | None = None) -> None:
    """Fetch a model of `raypref model list`, or convert a GGUF file, so that it lies under the root as a folder.

    Args:
        name: its name; or the path of a GGUF file, or of its parts with commas between.
        root: folder of all results, where models are kept too; default: $RAYPREF_ROOT, else ~/raypref-results.
    """
    if not names_gguf(name):
        pick(name, KNOWN, "model")
    model = gguf_model(name)
    assert model is not None
    place = made(model, Store(root or default_root()))
    Console().print(f"ready: --model.path {name}, a folder at {place}", soft_wrap=True, highlight=False)


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_models, "fetch": fetch}
