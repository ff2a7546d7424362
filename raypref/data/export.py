"""Writing examples and logs in the formats of other tools: TRL, RecBole, S-DPO."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypref.data.examples import Examples
from raypref.data.schema import Log
from raypref.data.sources.sdpo_json import BETWEEN, SPLIT_ENDS
from raypref.data.splitting import SPLITS
from raypref.errors import UserError

# (number of the example, history titles, their ratings, candidate titles) to a prompt: `prompts.PromptRenderer`
Render = Callable[[int, list[str], list[float], list[str]], str]
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\ttitle:token_seq\n"
# What pandas takes for no value, in quotes or not (the documentation of `read_csv`, na_values).
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip


def export_trl(examples: Examples, log: Log, folder: Path, render: Render, negatives: int | None) -> list[Path]:
    """`SPLIT.jsonl`, rows of prompt, chosen, rejected: one row a pair, as TRL's DPOTrainer reads them.

    Args:
        negatives: pairs per example, the first candidates beside the target in the list's (random) order; None: all.
    """
    titles = log.items["title"].to_pylist()

    def rows(split: str) -> Iterator[dict[str, Any]]:
        for row in _examples(examples, split):
            listed = [titles[i] for i in row["candidates"]]
            history = [titles[i] for i in row["history"]]
            prompt = render(row["example"], history, row["history_rating"], listed)
            others = [t for place, t in enumerate(listed) if place != row["target"]]
            for title in others[:negatives]:
                yield {"prompt": prompt, "chosen": listed[row["target"]], "rejected": title}

    return [
        _write_lines(folder / f"{split}.jsonl", map(_json, rows(split))) for split in SPLITS if examples.rows(split)
    ]


def export_sdpo(examples: Examples, log: Log, folder: Path, name: str) -> list[Path]:
    """`NAME-{train,val,test}.json`, arrays of historyList, itemList, trueSelection; by user and time."""
    titles = log.items["title"].to_pylist()
    between = pc.match_substring(log.items["title"], BETWEEN)
    if pc.any(between).as_py():
        bad = log.items.filter(between)["title"][0].as_py()
        raise UserError(f"S-DPO's format parts titles by '::', which is in {bad!r}", hint="export to recbole or trl")

    def lines(split: str) -> Iterator[str]:
        yield "["
        comma = ""
        for row in _examples(examples, split):
            listed = [titles[i] for i in row["candidates"]]
            content = {
                "historyList": BETWEEN.join(titles[i] for i in row["history"]),
                "itemList": listed,
                "trueSelection": listed[row["target"]],
            }
            yield comma + _json(content)
            comma = ","
        yield "]"

    ends = {split: end for split, end in SPLIT_ENDS.items() if examples.rows(split)}
    return [_write_lines(folder / f"{name}-{end}.json", lines(split)) for split, end in ends.items()]


def export_recbole(examples: Examples, log: Log, folder: Path, name: str) -> list[Path]:
    """`NAME.inter` and `NAME.item`: the filtered log, ids as in the raw data, times in seconds (empty where none).

    Raises:
        UserError: an id would be read as a missing value.
    """
    table = examples.interactions
    users, items = (_field(log.users["user_id"]), _field(log.items["item_id"]))
    for kind, ids in (("user", users), ("item", items)):
        if missing := [text for text in pc.unique(ids).to_pylist() if text in MISSING]:
            raise UserError(
                f"the {kind} id {missing[0]!r} would be read as a missing value (RecBole reads its files by pandas)",
                hint="export to trl, or rename it in the data",
            )
    inter, item = folder / f"{name}.inter", folder / f"{name}.item"
    with _created(inter).open("w", encoding="utf-8", newline="") as out:
        out.write(INTER)
        for batch in table.to_batches(max_chunksize=1 << 18):
            columns = [
                users.take(batch["user"]),
                items.take(batch["item"]),
                batch["rating"].cast(pa.string()),
                batch["timestamp"].cast(pa.string()),
            ]
            joined = pc.binary_join_element_wise(*columns, "\t", null_handling="replace", null_replacement="")
            out.write("\n".join(joined.to_pylist()) + "\n")
    met = np.unique(table["item"].to_numpy())
    titles = _field(log.items["title"])
    pairs = pc.binary_join_element_wise(items.take(pa.array(met)), titles.take(pa.array(met)), "\t")
    return [inter, _write_lines(item, iter([ITEM.rstrip("\n"), *pairs.to_pylist()]))]


def _field(column: pa.ChunkedArray) -> pa.Array:
    """Text without the characters that part fields and lines; in quotes where it would be taken for a quoted one."""
    text = pc.replace_substring_regex(column.combine_chunks(), r"[\t\r\n]+", " ")
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.if_else(pc.starts_with(text, '"'), quoted, text)


def _examples(examples: Examples, split: str) -> Iterator[dict[str, Any]]:
    for shard in examples.shards(split, shuffle=False):
        yield from shard.select(["example", "history", "history_rating", "candidates", "target"]).to_pylist()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)


def _created(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _write_lines(file: Path, lines: Iterator[str]) -> Path:
    with _created(file).open("w", encoding="utf-8", newline="") as out:
        out.writelines(line + "\n" for line in lines)
    return file
