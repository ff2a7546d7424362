"""Whether prompts fit a model, as far as configs and finished stages tell: no torch, no tokenizer.

`stages/needs.py` measures what this can't know.
"""

from __future__ import annotations

import json

from raypref.config.model import PretrainedModel
from raypref.models.folders import local_folder
from raypref.stages.stage import Chain
from raypref.storage.store import Store

ROOM = 20  # tokens beyond a prompt: a title that is not known yet, and an answer's spare ones
POSITIONS_OF_SCRATCH = 4096


def positions(run: Chain) -> int | None:
    """How many tokens the model was made to read at once; None where that isn't known here."""
    model = run.config.backbone
    if not isinstance(model, PretrainedModel):
        return POSITIONS_OF_SCRATCH
    folder = local_folder(model)
    if folder is None or not (folder / "config.json").is_file():
        return None
    said = json.loads((folder / "config.json").read_text())
    found = said.get("max_position_embeddings", said.get("text_config", {}).get("max_position_embeddings"))
    return None if found is None else int(found)


def room_line(run: Chain, store: Store) -> str:
    """Of tokenized data how long prompts are; else what the config allows; nothing where no tokens are made."""
    tokenize = next((stage for stage in run if stage.kind == "tokenize"), None)
    if tokenize is None:
        return ""
    limit, config = positions(run), run.config
    if store.done(tokenize.address):
        facts = store.manifest(tokenize.address)["facts"]
        if "longest_prompt" not in facts:
            return ""
        told = f"prompts of up to {facts['longest_prompt']:,} tokens, titles of {facts['longest_title']:,}"
        return f"{told}; the model has {limit:,} positions" if limit else told
    if limit is None or config.prompt.max_tokens <= limit - ROOM:
        return ""
    return (
        f"prompts may have {config.prompt.max_tokens:,} tokens (prompt.max_tokens), and the model has {limit:,} "
        f"positions: runs with longer ones are refused; --prompt.max-tokens {limit - ROOM} keeps to it"
    )
