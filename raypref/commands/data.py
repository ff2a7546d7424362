"""The functions behind `raypref data ...`: list, download, show, audit, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from raypref.config.data import CutConfig, DataConfig, PromptConfig
from raypref.config.loading import load
from raypref.config.model import PretrainedModel
from raypref.config.sources import SOURCE_CONFIGS, FileOptions, GeneratedSource
from raypref.data import download as catalog
from raypref.data.audit import LEAKS, audit, leak_warning
from raypref.data.catalog import CATALOG
from raypref.data.examples import Examples, asks_for_liked, examples_of
from raypref.data.export import export_recbole, export_sdpo, export_trl
from raypref.data.hints import options
from raypref.data.names import named_source, source_of_place, with_options
from raypref.data.prompts import PromptRenderer
from raypref.data.reading import read_log
from raypref.data.schema import Log, PublishedLog
from raypref.data.sources.files import data_folder
from raypref.data.splitting import SPLITS
from raypref.data.statistics import PUBLISHED, Statistics, length_histogram, rating_histogram, statistics
from raypref.data.ties import repeated_rows, tied_rows, ties
from raypref.errors import UserError
from raypref.models.folders import SHIPPED, local_folder
from raypref.models.gguf_source import gguf_model, made
from raypref.storage.store import Store, digest
from raypref.sweeps.options import default_root

Name = Annotated[str, tyro.conf.Positional]
BAR = 40
DEFAULT_CUT, DEFAULT_PROMPT, DEFAULT_FILE = CutConfig(), PromptConfig(), FileOptions()
Own = Annotated[FileOptions, tyro.conf.arg(name="")]


def short_options(arguments: list[str]) -> list[str]:
    """The words of a job's command line (--data.source.user, --data.target) as those of `raypref data`."""
    for long, short in (("--data.source.", "--"), ("--data.", "--cut.")):
        arguments = [short + a.removeprefix(long) if a.startswith(long) else a for a in arguments]
    return arguments


def data_config(
    name: str, path: Path | None = None, cut: CutConfig | None = None, own: FileOptions = DEFAULT_FILE
) -> DataConfig:
    """The config that reads a data set by its name, or a file or folder of one's own, and cuts it as `cut` says.

    A config file (.yaml) says both itself.
    """
    given = {key: value for key, value in own if value != getattr(DEFAULT_FILE, key)}
    if Path(name).suffix in (".yaml", ".yml"):
        if path is not None or given or cut not in (None, CutConfig()):
            raise UserError("a config file says where its data are and how they are cut", where=name, hint="edit it")
        return load("tiny", Path(name))[0].data
    source = source_of_place(name) or named_source(name)
    if path is not None and isinstance(source, GeneratedSource):
        raise UserError("generated data have no files", where="--path", hint="leave --path out")
    source = with_options(source, given | ({"path": path} if path is not None else {}), name)
    return DataConfig(source=source, **dict(cut or CutConfig()))


def list_sets(console: tyro.conf.Suppress[Console | None] = None) -> None:
    """List the public data sets that raypref reads, and which of them are here."""
    table = Table("name", "data set", "paper", "here")
    for name, data in CATALOG.items():
        here = any((root / data.source.path).exists() for root in (Path(), data_folder()))
        table.add_row(name, data.title, data.paper, "yes" if here else "")
    table.add_row("generated", "a made-up movie catalog and its viewers", "", "yes")
    _console(console).print(table)
    others = ", ".join(kind for kind in SOURCE_CONFIGS if kind not in CATALOG and kind != "generated")
    _console(console).print(f"Kinds of files, each with --path: {others}. Your own file: raypref data show FILE.")


def download(name: Name, to: Path | None = None, console: tyro.conf.Suppress[Console | None] = None) -> Path:
    """Fetch a public data set; an interrupted download goes on where it stopped.

    Args:
        name: its name in `raypref data list`.
        to: the folder for data sets; by default $RAYPREF_DATA, else ./data.
    """
    console = _console(console)
    root = to or data_folder()
    parts = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*parts, console=console) as bars:
        tasks: dict[str, Any] = {}

        def progress(file: str, have: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=have, total=total or None)

        place = catalog.download(name, root, progress)
    console.print(f"ready: {place}", soft_wrap=True)
    return place


def show(
    name: Name,
    path: Path | None = None,
    cut: CutConfig = DEFAULT_CUT,
    console: tyro.conf.Suppress[Console | None] = None,
    own: Own = DEFAULT_FILE,
    model: str | None = None,
) -> None:
    """Show a data set: its size beside the papers' tables, its ratings and lengths, three prompts.

    Args:
        name: its name in `raypref data list`, a file of your own, or a config file (.yaml) with its source.
        path: where its files are; by default where `download` puts them.
        cut: how it is cut into examples.
        own: what to know of a file of your own; options of jobs (--data.source.user) are understood too.
        model: show prompts as this model reads them (a name, folder or GGUF file), its chat template around them.
    """
    show_config(data_config(name, path, cut, own), name, _console(console), model=model)


def show_config(
    config: DataConfig, name: str, console: Console, prompt: PromptConfig | None = None, model: str | None = None
) -> None:
    """`show` for any config."""
    log = read_log(config)
    whole = statistics(log.interactions, log.items.num_rows)
    console.print(_sizes(log, whole, name))
    for account in log.files:
        refused = f", {account.rejected:,} refused" if account.rejected else ""
        console.print(f"{account.file}: {account.lines:,} lines, {account.accepted:,} accepted{refused}")
    if assumed := (*log.assumed, *_assumed_order(log)):
        console.print(escape(f"assumed: {'; '.join(assumed)}"), soft_wrap=True)
    for row in log.rejected.slice(0, 5).to_pylist():
        console.print(escape(f"  {row['file']}:{row['line']}: {row['reason']}: {row['text'][:80]!r}"))
    console.print(_bars("rating", rating_histogram(log)))
    console.print(_bars("interactions of a user", length_histogram(log.interactions)))
    console.print(f"config {digest(config.model_dump(mode='json'))}")
    if not log.has_times and not isinstance(log, PublishedLog):
        console.print("no times: there is no next item, so no sequential split (data.split) will take these data")
        if "order" in type(config.source).model_fields:
            console.print(escape(f"if the rows of a user are in order: {options({'order': 'rows'})}"), soft_wrap=True)
        return
    examples = examples_of(log, config)
    if not isinstance(log, PublishedLog):
        kept = statistics(examples.interactions, log.items.num_rows)
        sizes = f"{kept.users:,} users, {kept.items:,} items, {kept.interactions:,} interactions"
        console.print(f"first meetings, {config.k_core}-core: {sizes}")
    console.print(", ".join(f"{examples.rows(split):,} {split}" for split in SPLITS) + " examples")
    if log.has_times:
        console.print(escape(_ties(log, examples, "test")), soft_wrap=True)
    heading = "a prompt and its answer" + (f" as {model} reads them, special tokens and all" if model else "")
    for text in _prompts(log, examples, config, prompt or DEFAULT_PROMPT, model):
        console.rule(heading)
        console.print(escape(text), soft_wrap=True)


def audit_leaks(
    name: Name,
    path: Path | None = None,
    cut: CutConfig = DEFAULT_CUT,
    split: Literal["validation", "test"] | None = None,
    tokenizer: str = SHIPPED,
    console: tyro.conf.Suppress[Console | None] = None,
    own: Own = DEFAULT_FILE,
) -> bool:
    """Measure what a guesser gets who never reads a title; more than chance by position alone is a leak.

    Args:
        name: its name in `raypref data list`, a file of your own, or a config file (.yaml) with its source.
        path: where its files are; by default where `download` puts them.
        cut: how it is cut into examples.
        split: what to guess on; by default test, or validation where test was not published.
        tokenizer: the model, a name or folder, whose tokens must be able to say the titles.
        own: what to know of a file of your own; options of jobs (--data.source.user) are understood too.

    Returns:
        Whether the data leak.
    """
    console, config = _console(console), data_config(name, path, cut, own)
    log = read_log(config)
    examples = examples_of(log, config)
    split = split or ("test" if examples.rows("test") else "validation")
    guesses = audit(examples.shards("train"), examples.shards(split), log.items["title"])
    table = Table("guessing by", "right", "99 % interval", "chance", "", title=f"{log.name}, {split}")
    for g in guesses:
        verdict = "[red]LEAK[/red]" if g.leaks else ("no leak" if g.name in LEAKS else "")
        table.add_row(g.name, f"{g.share:.4f}", f"{g.low:.4f} to {g.high:.4f}", f"{g.chance:.4f}", verdict)
    console.print(table)
    if log.has_times:
        console.print(escape(_ties(log, examples, split)), soft_wrap=True)
    console.print(escape(_answerable(log, tokenizer)), soft_wrap=True)
    warning = leak_warning(guesses, log.name)
    console.print(
        f"[red]{escape(warning)}[/red]" if warning else "no place in the list tells the target", soft_wrap=True
    )
    return warning is not None


def export(
    name: Name,
    to: Path,
    format: Literal["trl", "recbole", "sdpo-json"] = "trl",
    path: Path | None = None,
    cut: CutConfig = DEFAULT_CUT,
    prompt: PromptConfig = DEFAULT_PROMPT,
    negatives: int | None = None,
    console: tyro.conf.Suppress[Console | None] = None,
    own: Own = DEFAULT_FILE,
) -> list[Path]:
    """Write a data set for other tools.

    Args:
        name: its name in `raypref data list`, a file of your own, or a config file (.yaml) with its source.
        to: the folder to write to.
        format: trl: prompt, chosen, rejected. recbole: atomic files. sdpo-json: S-DPO's examples.
        path: where its files are; by default where `download` puts them.
        cut: how it is cut into examples.
        prompt: how an example becomes text (trl).
        negatives: rejected titles of each example (trl); by default all candidates beside the target.
        own: what to know of a file of your own; options of jobs (--data.source.user) are understood too.
    """
    config = data_config(name, path, cut, own)
    log = read_log(config)
    examples = examples_of(log, config)
    if format == "trl":
        files = export_trl(examples, log, to, _renderer(log, config, prompt), negatives)
    else:
        files = (export_recbole if format == "recbole" else export_sdpo)(examples, log, to, log.name)
    for file in files:
        _console(console).print(f"{file}: {file.stat().st_size:,} bytes", soft_wrap=True)
    return files


COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_sets,
    "download": download,
    "show": show,
    "audit": audit_leaks,
    "export": export,
}


def _console(console: Console | None) -> Console:
    return console or Console()


def _assumed_order(log: Log) -> list[str]:
    """How ties in time and ratings from counts were taken."""
    said = []
    if log.has_times:
        tied = tied_rows(log.interactions)
        if again := repeated_rows(log.interactions):
            said.append(f"repeated: {again:,} rows have user, item and time of another, only the first meeting counts")
        said.append(f"ties: {tied.mean():.1%} of the interactions, their order is drawn" if tied.any() else "no ties")
    if (rating := log.interactions["rating"]).null_count and log.interactions["count"].null_count < len(rating):
        said.append("ratings derived from counts: fifths of each item's users")
    return said


def _ties(log: Log, examples: Examples, split: str) -> str:
    return ties(examples.interactions, examples.shards(split), log.items["item_id"]).said


def _answerable(log: Log, model: str) -> str:
    """Whether a model's tokens can say the titles, so that an answer can match them."""
    from raypref.data.encoding import answerable, unanswerable_line  # transformers, which takes seconds to import

    titles = log.items["title"].to_pylist()
    line = unanswerable_line(titles, answerable(_tokenizer(model), titles))
    return line or f"all {len(titles):,} titles can be said with the tokens of {model}"


def _tokenizer(model: str) -> Any:
    """Of a model by its name, folder or GGUF file; the last is made a folder first."""
    from raypref.models.backbone import load_tokenizer

    if (gguf := gguf_model(model)) is not None:
        return load_tokenizer(made(gguf, Store(default_root())))
    return load_tokenizer(local_folder(PretrainedModel(path=model)) or model)


def _renderer(log: Log, config: DataConfig, prompt: PromptConfig) -> PromptRenderer:
    return PromptRenderer(prompt, log.domain, asks_for_liked(log, config))


def _prompts(
    log: Log, examples: Examples, config: DataConfig, prompt: PromptConfig, model: str | None, most: int = 3
) -> list[str]:
    render, titles = _renderer(log, config, prompt), log.items["title"]
    table = next(iter(examples.shards("train"))).slice(0, most)
    if model is not None:
        return _as_read(table, render, titles.to_pylist(), model)
    texts = []
    for row in table.to_pylist():
        history, listed = ([titles[i].as_py() for i in row[key]] for key in ("history", "candidates"))
        texts.append(render(row["example"], history, row["history_rating"], listed) + listed[row["target"]])
    return texts


def _as_read(table: pa.Table, render: PromptRenderer, titles: list[str], model: str) -> list[str]:
    """Prompts and answers, out of the tokens that the model is given."""
    from raypref.data.tokens import ExampleTokenizer

    tokenizer = _tokenizer(model)
    tokens = ExampleTokenizer(tokenizer, render, titles, render.config.max_tokens)(table).to_pylist()
    texts = []
    for row, target in zip(tokens, table["target"].to_pylist()):
        prompt, answer = row["prompt_ids"], row["title_ids"][target]
        counts = f"\n\n({len(prompt)} tokens, of which none is scored; the answer has {len(answer)})"
        texts.append(tokenizer.decode(prompt) + tokenizer.decode(answer) + counts)
    return texts


def _sizes(log: Log, whole: Statistics, name: str) -> Table:
    table = Table("", "users", "items", "interactions", "mean length", "density", "days", title=log.name)
    row = (whole.users, whole.items, whole.interactions)
    days = f"{whole.first} to {whole.last}" if whole.first else "no times"
    table.add_row("here", *(f"{n:,}" for n in row), f"{whole.mean_length:.1f}", f"{whole.density:.3%}", days)
    for paper in PUBLISHED.get(name, ()):
        numbers = (paper.sequences, paper.items, paper.interactions)
        density = paper.interactions / (paper.sequences * paper.items)
        mean = paper.interactions / paper.sequences
        table.add_row(paper.paper, *(f"{n:,}" for n in numbers), f"{mean:.1f}", f"{density:.3%}", "")
    if whole.catalog != whole.items:
        table.caption = f"{whole.catalog:,} items have a title"
    return table


def _bars(title: str, histogram: list[tuple[str, int]]) -> Table:
    table = Table(title, "", "", box=None)
    most = max((count for _, count in histogram), default=1)
    for label, count in histogram:
        table.add_row(label, "█" * max(round(BAR * count / most), int(count > 0)), f"{count:,}")
    return table
