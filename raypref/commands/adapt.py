"""`raypref adapt`: a small model learns a data set's titles and histories before any run fine-tunes it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import yaml
from rich.console import Console

from raypref.config.adaptation import Adaptation
from raypref.config.loading import dump
from raypref.errors import UserError
from raypref.models.folders import TRAINED_ON, check_model
from raypref.provenance import provenance
from raypref.stages.identity import check_trained_on, training_data
from raypref.sweeps.options import RunOptions, parse

DESCRIPTION = """Adapt a small model to a data set's training split, and write it as a folder for --model.path.

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
    """Folder for weights, tokenizer and the account of how they were made; it must not hold anything yet."""
    adapt: Adaptation = dataclasses.field(default_factory=Adaptation)
    """How it is adapted."""
    threads: int | None = None
    """Torch threads; none: all cores."""


def adapt(arguments: list[str]) -> int:
    """Adapt a model as the command line says; the exit code.

    Raises:
        UserError: the folder is in use, there is no such model, or it was trained on other data.
    """
    options, config, _ = parse(AdaptOptions, arguments, DESCRIPTION)
    console = Console()
    if options.out.exists() and any(options.out.iterdir()):
        raise UserError("there are files already", where=str(options.out), mend="choose another folder by --out")
    check_model(config.model)
    check_trained_on(config)
    seen = training_data(config)
    if options.dry_run:
        console.print_json(json.dumps({"training data": seen, "adaptation": dump(options.adapt)}))
        return 0
    import torch

    from raypref.models import backbone
    from raypref.pretraining import adaptation

    if options.threads is not None:
        torch.set_num_threads(options.threads)

    model, tokenizer, log = adaptation.adapt(config, options.adapt)
    partial = options.out.with_name(f".{options.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    backbone.save(model, partial)
    tokenizer.save_pretrained(partial)
    (partial / TRAINED_ON).write_text(json.dumps(seen, indent=1) + "\n")
    account: dict[str, Any] = {"adaptation": dump(options.adapt)}
    account |= {name: dump(config)[name] for name in ("model", "data", "prompt")}
    account |= {"parameters": model.num_parameters(), "log": log, "provenance": provenance()}
    (partial / ACCOUNT).write_text(yaml.safe_dump(account, sort_keys=False))  # no part of the model's address
    if options.out.exists():
        options.out.rmdir()
    partial.rename(options.out)
    console.print(f"adapted: --model.path {options.out}", highlight=False, soft_wrap=True)
    return 0
