"""S-DPO's published examples: JSON arrays of `{historyList: "a::b", itemList: [...], trueSelection: "..."}`."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from raypref.config.sources import SDPOJsonSource
from raypref.data.audit import audit, leak_warning
from raypref.data.schema import REJECTED, FileAccount, PublishedLog
from raypref.data.sources.files import find, rejected_table, tolerate
from raypref.data.sources.published import Ready, published_log
from raypref.data.title_text import normalized
from raypref.errors import UserError

SPLIT_ENDS = {"train": "train", "validation": "val", "test": "test"}
BETWEEN = "::"
logger = logging.getLogger(__name__)


def read_sdpo_json(config: SDPOJsonSource) -> PublishedLog:
    """Read what files there are; a warning tells what the places of the targets give away, where they are kept."""
    folder = find(config.path, "S-DPO's examples")
    splits: dict[str, list[Ready]] = {}
    named: set[str] = set()
    rejected, accounts = [REJECTED.empty_table()], []
    for split, end in SPLIT_ENDS.items():
        found = sorted(folder.glob(f"*-{end}.json"))
        if len(found) > 1:
            raise UserError(f"several files end in -{end}.json", where=str(folder), hint="keep one data set a folder")
        if found:
            splits[split], refused, account = _read(found[0], config.max_bad_lines)
            named |= {title for ready in splits[split] for title in (*ready.history, *ready.candidates)}
            if config.candidates == "drawn":
                splits[split] = [replace(ready, candidates=[ready.target]) for ready in splits[split]]
            rejected.append(refused)
            accounts.append(account)
    if "train" not in splits:
        raise UserError("no file ends in -train.json", where=str(folder.absolute()), hint="put the train file there")
    name = folder.name
    log = published_log(name, config.domain, splits, {t: t for t in named}, pa.concat_tables(rejected), tuple(accounts))
    held_out = log.examples.get("test", log.examples.get("validation"))
    if held_out is not None and config.candidates == "published":
        warning = leak_warning(audit([log.examples["train"]], [held_out], log.items["title"]), name)
        if warning:
            logger.warning(warning)
    return log


def _read(file: Path, limit: float) -> tuple[list[Ready], pa.Table, FileAccount]:
    """A file's examples; a broken one is refused by its 1-based number."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not valid JSON: {error}", where=str(file), hint="download it again; its end may be missing"
        ) from None
    if not isinstance(content, list):
        raise UserError("the file is no JSON array of examples", where=str(file), hint="is it S-DPO's?")
    ready, numbers, reasons, texts = [], [], [], []
    for number, record in enumerate(content, 1):
        made = _example(record)
        if isinstance(made, str):
            numbers.append(number)
            reasons.append(made)
            texts.append(json.dumps(record))
        else:
            ready.append(made)
    rejected = rejected_table(file, numbers, reasons, texts)
    tolerate(rejected, len(content), limit, file)
    return ready, rejected, FileAccount(file.name, len(content), len(ready), len(numbers))


def _example(record: Any) -> Ready | str:
    """The example, or why there is none."""
    if not isinstance(record, dict):
        return "not a JSON object"
    history: Any = record.get("historyList")
    items: Any = record.get("itemList")
    target: Any = record.get("trueSelection")
    if isinstance(history, str):
        history = history.split(BETWEEN)
    for name, titles in (("historyList", history), ("itemList", items)):
        if not isinstance(titles, list) or not all(_is_title(t) for t in titles):
            return f"{name} is not a list of titles"
    if not history:
        return "historyList is empty"
    history, items = [normalized(t) for t in history], [normalized(t) for t in items]
    if not _is_title(target):
        return "trueSelection is no title"
    target = normalized(target)
    if len(set(items)) < len(items) or len(items) < 2:
        return "itemList holds a title twice" if len(items) > 1 else "itemList holds fewer than two titles"
    if target not in items:
        return "trueSelection is not in itemList"
    nan = float("nan")
    return Ready(history, target, items, [nan] * len(history), nan)


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and bool(normalized(value)) and _is_text(value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
