"""Two trials or more side by side: configs, scores, who wins which user, and what each says to the same prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raypref.results.collect import Collection
from raypref.results.labels import metric_label, rows_of
from raypref.results.lineage import config_of, differing, histories, prompt_as_read, stages
from raypref.results.statistics import Test, paired_bootstrap
from raypref.results.tables import SHOWN, headline_metric
from raypref.storage.location import Location

SAMPLES = 8
MOST_ANSWERS = 4
MOST_OUTCOMES = 1_200_000  # trials times examples whose outcomes a page carries, a character each


@dataclass(frozen=True)
class Difference:
    """Of one metric between two trials, over the examples that both have."""

    metric: str
    first: float
    second: float
    test: Test
    """Of second less first, paired."""
    wins: int
    """Examples on which the second scores higher."""
    losses: int
    ties: int


def differences(first: pa.Table, second: pa.Table, metrics: tuple[str, ...] = SHOWN) -> list[Difference]:
    """Paired differences of two trials' rows of one split, joined by example."""
    found = []
    rows = [_in_order(table) for table in (first, second)]
    common = np.intersect1d(*(table["example"].to_numpy() for table in rows))
    kept = [table.filter(pc.is_in(table["example"], pa.array(common))) for table in rows]
    for metric in metrics:
        if not all(metric in table.column_names for table in kept):
            continue
        a, b = (table[metric].to_numpy(zero_copy_only=False).astype(float) for table in kept)
        both = np.isfinite(a) & np.isfinite(b)
        if not both.any():
            continue
        a, b, users = a[both], b[both], kept[0]["user"].to_numpy()[both]
        wins, losses = int((b > a).sum()), int((b < a).sum())
        test = paired_bootstrap(b, a, users)
        found.append(Difference(metric, a.mean(), b.mean(), test, wins, losses, len(a) - wins - losses))
    return found


def _in_order(table: pa.Table) -> pa.Table:
    return table.sort_by("example")


def sample_examples(tables: list[pa.Table], metric: str, count: int = SAMPLES) -> list[int]:
    """Examples on which the trials differ most, then others, each by its number."""
    hits: dict[int, list[float]] = {}
    for table in tables:
        for example, value in zip(table["example"].to_pylist(), table[metric].to_pylist()):
            hits.setdefault(example, []).append(value if value is not None and value == value else 0.0)
    spread = {example: float(np.std(values)) for example, values in hits.items() if len(values) == len(tables)}
    return sorted(sorted(spread, key=lambda example: (-spread[example], example))[:count])


def answers(table: pa.Table, examples: list[int]) -> list[str]:
    """What a trial generated for each example; its rank of the target where it generated nothing."""
    rows = {row["example"]: row for row in table.filter(pc.is_in(table["example"], pa.array(examples))).to_pylist()}
    return [_said(rows.get(example, {})) for example in examples]


def _said(row: dict[str, Any]) -> str:
    if row.get("answer") is not None:
        return str(row["answer"])
    return f"(target ranked {row['rank']})" if row.get("rank") else "-"


@dataclass(frozen=True)
class Asked:
    """A prompt and what trials said to it."""

    prompt: str
    target: str
    """The title that came next."""
    answers: list[tuple[str, str]]
    """Of each trial its label and its answer."""


def asked(collection: Collection, split: str) -> Asked | None:
    """The first prompt of the split as a model read it, chat template and all; None where no model read one."""
    if collection.root is None or "answer" not in collection.users.column_names:
        return None
    root = Location.of(collection.root)
    rows = collection.users
    rows = rows.filter(pc.and_(pc.equal(rows["split"], split), pc.is_valid(rows["answer"])))
    trials = {t["trial"]: t for t in rows_of(collection.trials) if t["status"] == "done" and t.get("evaluate")}
    names = rows["trial"].cast(pa.string()).to_pylist()
    answered = [trial for trial in trials if trial in set(names)]
    if not answered:
        return None
    first = trials[answered[0]]["evaluate"]
    example = int(rows["example"][names.index(answered[0])].as_py())
    prompt = prompt_as_read(root, first, split, example)
    if not prompt:
        return None
    _, target = histories(root, first, split, [example]).get(example, ([], ""))
    said = dict.fromkeys(answered[:MOST_ANSWERS], "")
    for trial, own, text in zip(names, rows["example"].to_pylist(), rows["answer"].to_pylist()):
        if own == example and trial in said:
            said[trial] = str(text)
    return Asked(prompt, target, [(str(trials[trial]["label"]), text) for trial, text in said.items()])


def page_data(collection: Collection, split: str, links: str | None) -> dict[str, Any]:
    """What the report's comparison needs, JSON-ready: trials with scores, settings that differ, outcomes, answers.

    Args:
        links: the way from the page's folder to the root, where the stages' folders lie; None: no links.
    """
    metric = headline_metric(collection)
    if not collection.has(metric, split):
        return {}
    usable = [trial for trial in rows_of(collection.trials) if trial["status"] == "done"]
    rows = collection.users.filter(pc.equal(collection.users["split"], split))
    names = pd.Series(rows["trial"].cast(pa.string()).to_pylist(), dtype=object)
    places = names.groupby(names).indices
    tables = {trial["trial"]: rows.take(places.get(trial["trial"], np.array([], int))) for trial in usable}
    usable = [trial for trial in usable if tables[trial["trial"]].num_rows]
    most = max((tables[trial["trial"]].num_rows for trial in usable), default=1)
    usable = usable[: max(2, MOST_OUTCOMES // most)]
    if len(usable) < 2:
        return {}
    chosen = sample_examples([tables[trial["trial"]] for trial in usable], metric)
    root = None if collection.root is None else Location.of(collection.root)
    known = root is not None and all(trial.get("evaluate") for trial in usable)
    prompts = histories(root, usable[0]["evaluate"], split, chosen) if root is not None and known else {}
    configs = [config_of(root, trial["evaluate"]) if root is not None and known else {} for trial in usable]
    scores = _scores(collection, split)
    varied = differing(configs)
    examples = sorted({e for table in tables.values() for e in table["example"].to_pylist()})
    return {
        "metric": metric_label(metric),
        "keys": list(varied),
        "samples": [_sample(example, prompts) for example in chosen],
        "trials": [
            {
                "id": trial["trial"],
                "label": trial["label"],
                "config": [_text(values[i]) for values in varied.values()],
                "scores": scores.get(trial["trial"], {}),
                "outcomes": _outcomes(tables[trial["trial"]], examples, metric),
                "answers": answers(tables[trial["trial"]], chosen),
                "links": _links(collection, trial, links),
            }
            for i, trial in enumerate(usable)
        ],
    }


def _sample(example: int, prompts: dict[int, tuple[list[str], str]]) -> dict[str, str]:
    history, target = prompts.get(example, ([], ""))
    return {"example": str(example), "history": ", ".join(history[-5:]), "target": target}


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _scores(collection: Collection, split: str) -> dict[str, dict[str, float]]:
    """By trial, then by the metric's name."""
    found = collection.metrics
    found = found[(found["split"] == split) & found["metric"].isin(SHOWN)]
    scores: dict[str, dict[str, float]] = {}
    for row in rows_of(found):
        scores.setdefault(row["trial"], {})[metric_label(row["metric"])] = round(float(row["value"]), 6)
    return scores


def _outcomes(table: pa.Table, examples: list[int], metric: str) -> str:
    """A character for each example: 1 a hit, 0 none, - not asked."""
    values = dict(zip(table["example"].to_pylist(), table[metric].to_pylist()))
    found = (values.get(example) for example in examples)
    return "".join("-" if value is None else str(int(value >= 0.5)) for value in found)


def _links(collection: Collection, trial: dict[str, Any], links: str | None) -> list[list[str]]:
    if links is None or collection.root is None or not trial.get("evaluate"):
        return []
    found = stages(Location.of(collection.root), trial["evaluate"])
    trained = found.get("align") or found.get("sft") or found.get("fit")
    made = [["config", f"{links}/{trial['evaluate']}/_SUCCESS"]]
    if trained:
        made += [["training's config", f"{links}/{trained}/_SUCCESS"], ["log", f"{links}/{trained}/metrics.jsonl"]]
    return made
