"""`raypref adapt`: a small model learns a data set's titles and histories before any run fine-tunes it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import ClassVar

import yaml
from rich.console import Console

from raypref.config import RunConfig
from raypref.config.adaptation import Adaptation
from raypref.config.loading import dump
from raypref.config.model import AdaptedModel
from raypref.errors import UserError
from raypref.experiment import print_plan, run_chain
from raypref.models.folders import TRAINED_ON
from raypref.provenance import provenance
from raypref.stages.chain import chain
from raypref.stages.identity import check_trained_on, training_data
from raypref.stages.stage import Stage
from raypref.storage.store import Store
from raypref.sweeps.options import RunOptions, parse

DESCRIPTION = """Adapt a small model to a data set's training split, and write it as a folder for --model.path.

The same as a stage of a run, made once and shared: `raypref run --model.kind adapted`.

Examples:
  raypref adapt --dataset ml-100k --out models/ml-100k
  raypref run --preset replicate --dataset ml-100k --model.path models/ml-100k
"""
ACCOUNT = "adaptation.yaml"


@dataclasses.dataclass
class AdaptOptions(RunOptions):
    """Options of an adaptation."""

    program: ClassVar[str] = "raypref adapt"
    preset: str = "replicate"
    """Settings to start from: the model, the data and how they are split, the prompt; of the rest nothing is read."""
    out: Path = Path("adapted")
    """Folder for a copy of weights and tokenizer and how they were made; it must not hold anything yet."""
    adapt: Adaptation = dataclasses.field(default_factory=Adaptation)
    """How it is adapted."""
    threads: int | None = None
    """Torch threads; none: all cores."""


def adapt(arguments: list[str]) -> int:
    """Adapt a model as the command line says; the exit code.

    Raises:
        UserError: the folder is in use, there is no such model, or it was trained on other data.
    """
    options, config, origins = parse(AdaptOptions, arguments, DESCRIPTION)
    console = Console()
    if options.out.exists() and any(options.out.iterdir()):
        raise UserError("there are files already", where=str(options.out), hint="choose another folder by --out")
    check_trained_on(config)
    config = config.model_copy(
        update={"system": "zero-shot", "model": AdaptedModel(base=config.backbone, adapt=options.adapt)}
    )
    store, run = Store(options.root), chain(config)
    stages = [stage for stage in run if stage.kind in ("prepare", "adapt")]
    if options.dry_run:
        print_plan(console, run, store, origins, stages)
        return 0
    import torch

    from raypref.stages.in_process import InProcess

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    run_chain(run, stages, store, InProcess(store), lambda line: console.print(line, highlight=False, soft_wrap=True))
    _copy(config, stages[-1], store, options.out)
    console.print(f"adapted: --model.path {options.out}", highlight=False, soft_wrap=True)
    return 0


def _copy(config: RunConfig, stage: Stage, store: Store, out: Path) -> None:
    """What the stage left, as a folder that may leave the root: with the data it has seen, and an account."""
    made, manifest = store.path(stage.address), store.manifest(stage.address)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(made / "model", partial)
    (partial / TRAINED_ON).write_text(json.dumps(training_data(config), indent=1) + "\n")
    log = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    account = {"stage": str(stage.address), "adaptation": stage.config["adapt"]}
    account |= {name: dump(config)[name] for name in ("model", "data", "prompt")}
    account |= {"parameters": manifest["facts"]["parameters"], "log": log, "provenance": provenance()}
    (partial / ACCOUNT).write_text(yaml.safe_dump(account, sort_keys=False))  # no part of the model's address
    if out.exists():
        out.rmdir()
    partial.rename(out)
