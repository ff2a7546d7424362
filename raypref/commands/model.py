"""The functions behind `raypref model ...`: list, fetch, probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from raypref.config.base import lookup
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
        lookup(name, KNOWN, "model")
    model = gguf_model(name)
    assert model is not None
    place = made(model, Store(root or default_root()))
    Console().print(f"ready: --model.path {name}, a folder at {place}", soft_wrap=True, highlight=False)


def probe(
    name: Name,
    dataset: str = "ml-100k",
    titles: int = 200,
    users: int = 200,
    root: str | None = None,
    console: tyro.conf.Suppress[Console | None] = None,
) -> None:
    """Measure whether a model knows a data set because it has read it: its titles, and its users' histories.

    Args:
        name: the model: a name of `raypref model list` or of the hub, a folder, or a GGUF file.
        dataset: its name in `raypref data list`, or a file of your own.
        titles: of how many titles the second half is asked for.
        users: how many test users' histories are continued.
        root: folder of all results, where models are kept too; default: $RAYPREF_ROOT, else ~/raypref-results.
    """
    import itertools

    from raypref.commands.data import data_config
    from raypref.config.model import PretrainedModel
    from raypref.data.examples import examples_of
    from raypref.data.reading import read_log
    from raypref.evaluation.memorization import histories_known, titles_known
    from raypref.models import backbone
    from raypref.models.folders import local_folder

    gguf = gguf_model(name)
    path = name if gguf is None else str(made(gguf, Store(root or default_root())))
    config = PretrainedModel(path=path, dtype="float32", lora=None)
    data = data_config(dataset)
    log = read_log(data)
    examples, names = examples_of(log, data), log.items["title"].to_pylist()
    tokenizer = backbone.load_tokenizer(local_folder(config) or path)
    model = backbone.build(config, tokenizer)
    model.eval()
    rows = (row for table in examples.shards("test") for row in table.to_pylist())
    shares = titles_known(model, tokenizer, names, log.domain, titles)
    shares.append(histories_known(model, tokenizer, names, list(itertools.islice(rows, users)), examples.train_counts))
    table = Table("of what it has read", "share", "95 % interval", "chance", "n", title=f"{name} on {log.name}")
    for found in shares:
        interval = f"{found.low:.3f} to {found.high:.3f}"
        table.add_row(found.what, f"{found.share:.3f}", interval, f"{found.chance:g}", f"{found.n}")
    (console or Console()).print(table)


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_models, "fetch": fetch, "probe": probe}
