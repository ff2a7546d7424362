"""The command line of a job: its own options, and every key of the config."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro
from pydantic import ValidationError

from raypref.config import RunConfig
from raypref.config.base import leaves, lookup, nested, tagged_unions
from raypref.config.loading import dump, load, merge, plain_faults, validated
from raypref.data.names import source_content
from raypref.errors import UserError
from raypref.stages.chain import located, with_model

DEFAULT_ROOT = "~/raypref-results"
UNIONS = dict(tagged_unions(RunConfig))
"""The sections that each tag chooses among; an option may name one, and then has that one's keys."""
WITH_RAY = {"--mirror": "mirror of the trials", "--storage": "Optuna study"}
Options = TypeVar("Options", bound="RunOptions")


def default_root() -> str:
    """Where results lie unless a command is told otherwise."""
    return os.environ.get("RAYPREF_ROOT", DEFAULT_ROOT)


@dataclasses.dataclass
class RunOptions:
    """Options that every command with a config has."""

    program: ClassVar[str] = ""
    """The command as users type it; none: the name of the script."""
    preset: str = "tiny"
    """Settings to start from: tiny, smoke, scratch, classical, replicate, llama3-8b-lora or qwen2.5-7b-lora."""
    config: Path | None = None
    """A YAML file over the preset."""
    dataset: str | None = None
    """Data set by its name in `raypref data list`, kind of source (csv ...), or a file or folder of yours; its options
    are --data.source.*"""
    transfer_dataset: str | None = None
    """Evaluate on held-out users of this kind of data source instead (cross-domain); its options are --transfer.*"""
    objective: Annotated[str | None, tyro.conf.arg(aliases=("--method",))] = None
    """Name of the objective (recpo, sdpo, dpo ...); its options are --align.objective.*"""
    root: str = dataclasses.field(default_factory=default_root)
    """Folder of all results, shared by all nodes of a cluster, or the address of an object store (s3://, gs://);
    default: $RAYPREF_ROOT, else ~/raypref-results."""
    dry_run: bool = False
    """Say what would be done, and what is missing, then stop."""
    thorough: bool = False
    """With --dry-run: also predict a worker's memory and measure prompts with the model's own tokenizer (seconds)."""
    verbose: bool = False
    """Show the messages of Ray, Tune and Optuna too."""


@dataclasses.dataclass
class SweepOptions(RunOptions):
    """Options of a sweep."""

    values: tuple[float | str, ...] | None = None
    """Values of the swept key, numbers or names, instead of those of the YAML file (for sweeps over one key)."""
    seeds: int | None = None
    """Repetitions of each setting instead of those of the YAML file."""
    decide: float | None = None
    """Add seeds in rounds, only to settings whose difference to the default is undecided: until each is better, worse,
    or equivalent within this margin of HR@1, or further seeds would hardly tell. For grids; replaces --seeds."""
    max_seeds: int = 5
    """With --decide: the most seeds that a setting gets."""
    equivalent: float = 0.01
    """Differences of HR@1 below this count for nothing: settings that surely lie within it are called equivalent."""
    whole_seeds: bool = False
    """Each repetition repeats fine-tuning too, not alignment alone."""
    search: Literal["grid", "random", "tpe", "gp", "nsga2"] | None = None
    """How settings are chosen, instead of the YAML file's way."""
    trials: int | None = None
    """Settings in all that a search may try, earlier ones included; a grid has as many as it has."""
    add_trials: int = 0
    """Settings to try on top of all that were tried before."""
    pruner: Literal["none", "asha", "median"] | None = None
    """End trials that validate badly before their time; not for grids."""
    limit: int | None = None
    """Only the first so many settings, the default one first: to try a sweep out."""
    storage: str | None = None
    """URL of a database for the Optuna study; default: a journal file in the sweep's folder."""
    ray: bool = True
    """Run on Ray; --no-ray: in this process, a trial after the other (grids only)."""
    mirror: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Write trials there too as they finish; each needs its package (pip install 'raypref[tensorboard]' ...)."""


def parse(
    options: type[Options], arguments: list[str], description: str, objective: str | None = None
) -> tuple[Options, RunConfig, dict[str, str]]:
    """Options, config, and the origin of each key that differs from the defaults.

    Preset, file, data source and objective are read first, as they decide which further options there are.

    Raises:
        UserError: a name or value that is refused; a misspelt option ends in tyro's own message and exit code 2.
    """
    first, _ = _prescan(options, arguments)
    config, origins = load(first.preset, first.config)
    content = dump(config)
    if first.dataset is not None:
        content = merge(content, {"data": {"source": source_content(first.dataset)}})
        origins["data.source.kind"] = "command line"
    if first.transfer_dataset is not None:
        given = content["transfer"] or content["data"]  # cut as the training data are, unless told otherwise
        content["transfer"] = merge(given, {"source": source_content(first.transfer_dataset)})
        origins["transfer.source.kind"] = "command line"
    name = first.objective or objective
    given = _given_tags(arguments)
    chosen_by_name = ({} if name is None else {"align.objective.name": name}) | given
    for key, chosen in sorted(chosen_by_name.items(), key=lambda item: item[0].count(".")):  # outer sections first
        section, tag = key.rsplit(".", 2)[-2:]
        lookup(chosen, UNIONS[key], section if tag in ("name", "kind") else tag)
        if key.startswith("transfer.") and content["transfer"] is None:
            content["transfer"] = content["data"]
        before = content
        content = merge(content, nested(key, chosen))
        if content != before:
            origins[key] = "command line" if first.objective or key in given else "the sweep"
    config = validated(RunConfig, content, first.preset)

    @dataclasses.dataclass
    class Whole(options):  # type: ignore[valid-type, misc]
        run: Annotated[RunConfig, tyro.conf.arg(name="")] = config

    try:
        parsed = tyro.cli(
            Whole,
            args=arguments,
            config=(tyro.conf.AvoidSubcommands,),
            prog=options.program or Path(sys.argv[0]).name,
            description=description,
        )
    except ValidationError as error:
        raise UserError(plain_faults(error), where="command line", hint="see --help for all options") from None
    if isinstance(parsed, SweepOptions):
        _check_without_ray(parsed)
    page = getattr(parsed, "write", None)  # of options that have it
    if page is not None and not page.is_file():
        raise UserError("there is no such page", where=f"--write {page}", hint="name a Markdown file that is there")
    before = dict(leaves(dump(config)))
    changed = {k for k, v in leaves(dump(parsed.run)) if before.get(k) != v and k != "align.objective.code"}
    origins |= dict.fromkeys(changed, "command line")
    config = with_model(located(parsed.run), parsed.root, make=not parsed.dry_run)
    return parsed, config, origins


def _check_without_ray(options: SweepOptions) -> None:
    """Refuse what only trials on Ray do, so that nobody waits for what will not come."""
    given = {"--mirror": bool(options.mirror), "--storage": options.storage is not None}
    useless = [name for name, asked in given.items() if asked]
    if useless and not options.ray:
        raise UserError(
            f"without Ray there is no {' and no '.join(WITH_RAY[name] for name in useless)}",
            where=f"--no-ray, {', '.join(useless)}", hint=f"leave out --no-ray, or {' and '.join(useless)}",
        )  # fmt: skip


def _given_tags(arguments: list[str]) -> dict[str, str]:
    """What the command line says of which section of a union is meant, as `--baseline.recommender popularity` does."""
    options = {f"--{key}": key for key in UNIONS}
    given: dict[str, str] = {}
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        option, equals, value = argument.partition("=")
        if option in options:
            given[options[option]] = value if equals else following
    return given


def _prescan(options: type[Options], arguments: list[str]) -> tuple[Any, list[str]]:
    wanted = ("--preset", "--config", "--dataset", "--transfer-dataset", "--objective", "--method")
    kept: list[str] = []
    for i, argument in enumerate(arguments):
        if argument in wanted:
            kept += arguments[i : i + 2]
        elif argument.startswith(tuple(f"{w}=" for w in wanted)):
            kept.append(argument)
    return tyro.cli(options, args=kept, return_unknown_args=True)
