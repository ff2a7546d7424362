"""What stands for data and models in addresses: their content, never where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raypref.config import RunConfig
from raypref.config.data import CutConfig
from raypref.config.loading import dump
from raypref.config.model import AdaptedModel, PretrainedModel
from raypref.data.fingerprint import fingerprint
from raypref.data.sources.files import find, items_file
from raypref.errors import UserError
from raypref.models.folders import TRAINED_ON, check_model, local_folder
from raypref.models.gguf_source import content_of_folder, gguf_model
from raypref.storage.store import digest

NOT_WHAT_IS_TRAINED_ON = {"held_out_targets", "max_history", "max_train_examples_per_user", "max_title", "candidates"}
"""Of a cut's config what does not decide which interactions training examples are cut from."""

READING = 3
"""How files become a log: changed where the same files give another one (2: ties in time keep no file's order; 3: zeros
are no times, items of refused lines alone are none)."""

LATER: dict[str, dict[str, Any]] = {
    "prompt": {"candidates": "listed"},
    "evaluation": {"catalog": "none", "constrain": "none", "orders": 1},
    "align": {
        "objectives": {},
        "negatives_from": "all",
        "negatives_by": "draw",
        "negatives_share": 1.0,
        "reference_update": "none",
        "reference_every": 100,
        "reference_decay": 0.99,
    },
}
"""Keys that a section got later, and the value that leaves what a stage computes as it was: then they are no part of an
address, so that what was computed before is found."""


def section_identity(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What stands for a section of a config, JSON-ready, in addresses."""
    later = LATER[name]
    return {k: v for k, v in whole[name].items() if k not in later or v != later[k]}


def source_identity(config: RunConfig) -> dict[str, Any]:
    """The source's config with its path replaced by a hash of what lies there."""
    source = dump(config.data.source)
    if "path" not in source:
        return source
    found = find(Path(source["path"]), source["kind"], getattr(config.data.source, "files", ()))
    del source["path"]
    content: dict[str, Any] = {
        "content": fingerprint(found, "**/*" if source["kind"] == "csv" else "*"),
        "reading": READING,
    }
    if source.get("items") is not None:
        content["items"] = fingerprint(items_file(Path(source["items"]), found))
    return {**source, **content}


def model_identity(config: RunConfig) -> dict[str, Any]:
    """The model's config; a local folder or GGUF file counts by its content, a hub name by name and revision."""
    check_model(config.backbone)
    check_trained_on(config)
    if isinstance(config.model, AdaptedModel):  # the stage `adapt` stands for the rest
        return {key: value for key, value in dump(config.model).items() if key not in ("base", "adapt")}
    model = dump(config.backbone)
    folder = local_folder(config.backbone) if isinstance(config.backbone, PretrainedModel) else None
    content = None if folder is None else model_content(folder)
    if folder is None and isinstance(config.backbone, PretrainedModel) and (gguf := gguf_model(config.backbone.path)):
        content = gguf.content
    if content is None:
        return model
    del model["path"]
    return {**model, "content": content}


def prompt_identity(whole: dict[str, Any]) -> dict[str, Any]:
    """How an example becomes text, of a config that is JSON-ready; what a model's chat template adds is told apart."""
    return {key: value for key, value in section_identity(whole, "prompt").items() if key != "chat"}


def chat_identity(config: RunConfig) -> str | None:
    """What stands for the chat template around prompts; None: there is none.

    Of a local folder the template itself. A hub's or a GGUF file's follows from what stands for the model already; a
    tokenizer that is fitted to a catalog has none.
    """
    model = config.backbone
    fitted = isinstance(config.model, AdaptedModel) and config.model.adapt.tokenizer == "fitted"
    if not config.prompt.chat or fitted or not isinstance(model, PretrainedModel):
        return None
    folder = local_folder(model)
    if folder is None or content_of_folder(folder) is not None:
        return "its own"
    file, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return digest(file.read_text(encoding="utf-8"))
    template = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return None if template is None else digest(template)


def training_data(config: RunConfig) -> dict[str, Any]:
    """What decides which interactions a run trains on."""
    return training_part({**dump(config)["data"], "source": source_identity(config)})


def training_part(prepared: Mapping[str, Any]) -> dict[str, Any]:
    """The same, of what a prepare stage is computed from."""
    keys = [key for key in CutConfig.model_fields if key not in NOT_WHAT_IS_TRAINED_ON]
    keys += ["max_users"] if prepared.get("max_users") is not None else []
    keys += ["max_title", "long_titles"] if prepared.get("long_titles", "cut") != "cut" else []
    return {key: prepared[key] for key in ("source", *keys)}


def check_trained_on(config: RunConfig) -> None:
    """Refuse a local model that raypref trained on other data: what this run tests on may have been among them.

    Raises:
        UserError: it was trained on such.
    """
    if not isinstance(config.backbone, PretrainedModel):
        return
    folder = local_folder(config.backbone)
    if folder is None or not (folder / TRAINED_ON).is_file():
        return
    seen, own = json.loads((folder / TRAINED_ON).read_text()), training_data(config)
    other = [key for key in own if seen.get(key) != own[key]]
    if other:
        raise UserError(
            f"the model was trained on other data (differing in {', '.join(other)}), which may hold what this run is "
            "tested on",
            where=f"model.path = {config.backbone.path}",
            hint=f"adapt a model to these data (raypref adapt), or delete its {TRAINED_ON} if you know better",
        )


def model_content(folder: Path) -> str:
    """What stands for a local model in addresses; one made of a GGUF file counts by that file."""
    if (content := content_of_folder(folder)) is not None:
        return content
    return fingerprint(folder, "*.json") + fingerprint(folder, "*.safetensors")
