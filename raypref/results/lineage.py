"""What a trial was computed from, read back from the manifests of its stages: configs, facts, prompts, logs."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raypref.config.base import leaves
from raypref.storage.location import Location
from raypref.storage.store import MANIFEST

FACTS = ("users", "items", "interactions", "train_examples", "validation_examples", "test_examples", "longest_title")


_known: dict[tuple[str, str, str], dict[str, Any]] = {}  # a finished stage's manifest says the same for ever


def manifest(root: Location, address: str) -> dict[str, Any]:
    """A stage's manifest; empty where there is none that can be read."""
    key = root.files.type_name, root.path, address
    if key not in _known:
        try:
            content = json.loads((root / address / MANIFEST).read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict):
            return {}
        _known[key] = content
    return _known[key]


def stages(root: Location, evaluation: str) -> dict[str, str]:
    """The addresses of all stages behind an evaluation, itself included, by kind: `prepare`, `align`, `sft` ..."""
    found: dict[str, str] = {}
    todo = [evaluation]
    while todo:
        address = todo.pop()
        stage = address.split("/")[0]
        if stage in found:
            continue
        found[stage] = address
        todo += [str(made_from) for made_from in (manifest(root, address).get("inputs") or {}).values()]
    return found


def config_of(root: Location, evaluation: str) -> dict[str, Any]:
    """All that decided an evaluation, by `stage.key`: the stages' own parts of the config."""
    found: dict[str, Any] = {}
    for stage, address in sorted(stages(root, evaluation).items()):
        found |= dict(leaves(manifest(root, address).get("config") or {}, f"{stage}."))
    return found


def differing(configs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values differ, each with its value in every config; None where one lacks it."""
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values[1:])}


def data_facts(root: Location, evaluation: str) -> dict[str, Any]:
    """What the prepared data are: users, items, interactions, examples."""
    prepared = stages(root, evaluation).get("prepare")
    facts = (manifest(root, prepared).get("facts") or {}) if prepared else {}
    return {name.replace("_", " "): facts[name] for name in FACTS if name in facts}


def histories(root: Location, evaluation: str, split: str, wanted: list[int]) -> dict[int, tuple[list[str], str]]:
    """Titles of the history and of the target, oldest first, of some examples; none where the data are gone."""
    prepared = stages(root, evaluation).get("prepare")
    if not prepared:
        return {}
    folder = root / prepared
    try:
        items = pq.read_table(f"{folder}/items.parquet", filesystem=folder.files, columns=["title"])
        parts = (folder / split).list(".parquet")
        titles = items["title"].to_pylist()
        found = {}
        for part in parts:
            columns = ["example", "history", "candidates", "target"]
            table = pq.read_table(str(part), filesystem=folder.files, columns=columns, partitioning=None)
            chosen = table.filter(pa.compute.is_in(table["example"], pa.array(wanted, pa.int64())))
            for row in chosen.to_pylist():
                target = titles[row["candidates"][row["target"]]]
                found[row["example"]] = [titles[item] for item in row["history"]], target
        return found
    except (OSError, KeyError, pa.ArrowException):
        return {}


def prompt_as_read(root: Location, evaluation: str, split: str, example: int) -> str:
    """A prompt token by token as the model got it, its own marks included; empty where it got none or it is gone."""
    from tokenizers import Tokenizer

    tokenized = stages(root, evaluation).get("tokenize")
    if not tokenized:
        return ""
    folder = root / tokenized
    try:
        for part in (folder / split).list(".parquet"):
            table = pq.read_table(
                str(part), filesystem=folder.files, columns=["example", "prompt_ids"], partitioning=None
            )
            for row in table.filter(pa.compute.equal(table["example"], example)).to_pylist():
                tokenizer = Tokenizer.from_str((folder / "tokenizer" / "tokenizer.json").read_bytes().decode())
                return str(tokenizer.decode(row["prompt_ids"], skip_special_tokens=False))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        pass
    return ""
