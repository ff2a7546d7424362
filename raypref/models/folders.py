"""Where a model's files lie; imports nothing heavy, as every process that computes addresses asks."""

from __future__ import annotations

from pathlib import Path

from raypref.config.model import BareModel, PretrainedModel, ScratchModel
from raypref.errors import UserError
from raypref.models.gguf_source import names_gguf

SHIPPED = "raypref-tiny"
TRAINED_ON = "trained_on.json"
"""In the folder of a model that `raypref adapt` or `raypref export` wrote: the training data that it has seen."""
SHIPPED_FOLDER = Path(__file__).parent.parent / "base"


def local_folder(config: PretrainedModel) -> Path | None:
    """The folder that `config.path` means; None for a hub name, and for a GGUF model, which is no folder yet.

    `raypref-tiny` is the model that the package ships.
    """
    if config.path == SHIPPED:
        return SHIPPED_FOLDER
    if names_gguf(config.path):
        return None
    folder = Path(config.path).expanduser()
    return folder if folder.exists() or config.path.startswith(("/", "./", "../", "~")) else None


def check_model(config: BareModel) -> None:
    """Refuse, before anything expensive, a model folder that can't be loaded."""
    folder = None if isinstance(config, ScratchModel) else local_folder(config)
    if isinstance(config, ScratchModel) or folder is None:
        return
    if not (folder / "config.json").is_file():
        raise UserError("no model lies there: config.json is missing", where=config.path, hint="check model.path")
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            "the model folder has no weights (*.safetensors)",
            where=config.path,
            hint="download the weights too, or convert them with save_pretrained",
        )
