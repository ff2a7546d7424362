"""`raypref adapt`: a small model learns a data set's titles and histories before any run fine-tunes it."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import Annotated

import tyro
import yaml
from rich.console import Console

from raypref.config.loading import dump
from raypref.errors import UserError
from raypref.models.adaptation import Adaptation
from raypref.models.folders import ADAPTED_TO
from raypref.stages.chain import check_training_data, training_data
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

    preset: str = "replicate"
    """Settings to start from: the model, the data and how they are split; of the rest nothing is read."""
    out: Path = Path("adapted")
    """Folder for weights, tokenizer and the account of how they were made."""
    adapt: Annotated[Adaptation, tyro.conf.arg(name="adapt")] = dataclasses.field(default_factory=Adaptation)
    """How it is adapted."""
    threads: int | None = None
    """Torch threads; none: all cores."""


def adapt(arguments: list[str]) -> int:
    """Adapt a model as the command line says; the exit code."""
    options, config, _ = parse(AdaptOptions, arguments, DESCRIPTION)
    console = Console()
    if options.out.exists() and any(options.out.iterdir()):
        raise UserError("there is something already", where=str(options.out), mend="name another --out, or delete it")
    learned = training_data(config)
    check_training_data(config)
    if options.dry_run:
        console.print_json(json.dumps({"training data": learned, "adaptation": dump(options.adapt)}))
        return 0
    import torch
    import transformers

    from raypref.models import adaptation, backbone

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    say = lambda line: console.print(line, highlight=False, soft_wrap=True, markup=False)  # noqa: E731
    model, tokenizer, log = adaptation.adapt(config, options.adapt, say)
    backbone.save(model, options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / ADAPTED_TO).write_text(json.dumps(learned, indent=1) + "\n")
    account = {
        "adaptation": dump(options.adapt),
        "model": dump(config.model),
        "data": dump(config.data),
        "parameters": model.num_parameters(),
        "versions": {
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "log": log,
    }
    (options.out / ACCOUNT).write_text(yaml.safe_dump(account, sort_keys=False))
    console.print(f"adapted: --model.path {options.out}", highlight=False, soft_wrap=True)
    return 0
