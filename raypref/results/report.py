"""The report of a sweep: one HTML page that needs nothing else, and the same in Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raypref.results.answer import answer, best_setting, caveats
from raypref.results.collect import SFT, Collection
from raypref.results.diagnosis import COLUMNS, diagnosis_table
from raypref.results.figures import Drawing, drawings
from raypref.results.labels import metric_label, rows_of, symbol, value_text
from raypref.results.lineage import data_facts
from raypref.results.pairs import asked, page_data
from raypref.results.places import PLACES_HEADER, place_rows, places_said
from raypref.results.render import escaped, html_table, markdown
from raypref.results.summaries import comparisons, settings, summary
from raypref.results.tables import SHOWN, headline_metric, sweep_cells
from raypref.results.training_curves import MOST_NAMED, setting_colours, sft_table, training_svg, training_table
from raypref.results.training_curves import SHOWN as TRAINING
from raypref.storage.location import Location
from raypref.storage.store import write_atomic

ERROR_LENGTH, ERROR_GROUPS = 3000, 30


def write_report(collection: Collection, folder: Path) -> list[Path]:
    """Write `report.html`, which holds its curves, and `report.md`, which shows the pictures beside it."""
    folder, figures = Path(folder), drawings(collection)
    here = None if collection.root is None else Location.of(collection.root).local
    links = None if here is None else os.path.relpath(here, folder.absolute()).replace(os.sep, "/")
    paths = [folder / "report.html", folder / "report.md"]
    page = report_html(collection, figures, links)
    write_atomic(paths[0], lambda path: path.write_text(page, encoding="utf-8"))
    write_atomic(paths[1], lambda path: path.write_text(report_markdown(collection, figures), encoding="utf-8"))
    return paths


def report_html(
    collection: Collection,
    figures: Sequence[Drawing] | None = None,
    links: str | None = None,
    running: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page as text.

    Args:
        links: the way from the page to the root, for links to trials' configs and logs; None: no links.
        running: how far each trial that runs has come, by its id.
    """
    split, table = collection.reported, sweep_cells(collection)
    training = training_table(collection)
    environment = Environment(
        loader=PackageLoader("raypref.results"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    colours = setting_colours(training)
    return environment.get_template("report.html.j2").render(
        sweep=collection.sweep,
        title=_title(collection),
        answer=answer(collection),
        diagnosis=caveats(collection),
        diagnosed=_diagnosed(collection),
        places=place_rows(collection),
        places_header=PLACES_HEADER,
        places_said=places_said(collection),
        now=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        counts=_counts(collection),
        figures=[_figure(collection, drawing) for drawing in (drawings(collection) if figures is None else figures)],
        settings=Markup(html_table(table, "settings-table")),
        notes=table.notes,
        diagnosed_header=["setting", *COLUMNS.values()],
        details=_details(collection, split),
        comparisons=_comparisons(collection, split),
        trial_header=_trial_header(collection),
        trials=_trials(collection, split, running),
        compared=_embedded(page_data(collection, split, links)),
        asked=asked(collection, split),
        facts=_facts(collection),
        sft_curve=Markup(training_svg(sft_table(collection), "loss")),
        states=sorted(set(collection.trials["status"])),
        failures=_failures(collection),
        training=[Markup(svg) for metric in TRAINING if (svg := training_svg(training, metric))],
        legend=list(colours.items()) if len(colours) <= MOST_NAMED else [],
        config=json.dumps(collection.sweep.get("config"), indent=2, ensure_ascii=False, default=str),
        space=[(key, symbol(key, collection.sweep), value_list(v)) for key, v in collection.sweep["space"].items()],
        commands=_commands(collection),
        seeds=_seeds(collection),
        default=[(k, value_text(v)) for k, v in _mapping(collection.sweep.get("default")).items()],
        provenance=_provenance(collection),
        versions=_mapping(_mapping(collection.sweep.get("provenance")).get("versions")),
    )


def report_markdown(collection: Collection, figures: Sequence[Drawing] | None = None) -> str:
    """The same without the list of trials: question, answer, table, curves, failures, how to run it again."""
    question = str(collection.sweep.get("question") or collection.sweep.get("name"))
    lines = [f"# {escaped(question)}", "", escaped(answer(collection)), ""]
    lines += [f"- {escaped(line)}" for line in (*caveats(collection), places_said(collection)) if line] + [""]
    lines += [markdown(sweep_cells(collection))]
    for drawing in drawings(collection) if figures is None else figures:
        lines += [f"![{escaped(drawing.describe(drawing.table))}]({drawing.name}.png)", ""]
    failures = _failures(collection)
    if failures:
        lines += ["## Trials without results", ""]
        for failure in failures:
            lines += [f"{', '.join(failure['labels'])} ({failure['status']}):", "", _fenced(failure["error"]), ""]
    lines += ["## Run it again", "", _fenced(_commands(collection)), ""]
    lines += [f"- {name}: {value}" for name, value in _provenance(collection)]
    versions = _mapping(_mapping(collection.sweep.get("provenance")).get("versions"))
    lines += ["- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items() if version), ""]
    return "\n".join(lines)


def value_list(values: Any) -> str:
    """The values of a list, or the ends of a range."""
    if isinstance(values, dict):
        return f"{values.get('low')} to {values.get('high')}{' (logarithmic)' if values.get('log') else ''}"
    return ", ".join(value_text(value) for value in values) if isinstance(values, list) else str(values)


def _title(collection: Collection) -> str:
    named = [collection.sweep.get("method"), collection.sweep.get("dataset")]
    return " on ".join(str(name) for name in named if name) or str(collection.sweep.get("name", "sweep"))


def _counts(collection: Collection) -> str:
    counts = collection.trials.loc[collection.trials["trial"] != SFT, "status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials"


def _figure(collection: Collection, drawing: Drawing) -> dict[str, Any]:
    """A figure, a picture for each metric so that they stand below each other on a phone, and the table behind it."""
    hidden = {
        "parameter",
        "symbol",
        "split",
        "low_users",
        "high_users",
        "points",
        "sft",
        "default",
        "over",
        "margin",
        "chance",
        "recommender",
        "best",
    }
    shown = [str(column) for column in drawing.table.columns if column not in hidden]
    header = [symbol(name, collection.sweep) if "." in name else metric_label(name) for name in shown]
    rows = [
        ["SFT" if name == "value" and row.get("sft") else _cell(name, row[name]) for name in shown]
        for row in rows_of(drawing.table)
    ]
    svgs = [Markup(svg) for svg in drawing.svgs()]
    return {"heading": drawing.heading, "svgs": svgs, "header": header, "rows": rows, "wide": drawing.wide}


def _cell(name: str, value: Any) -> str:
    if name == "metric":
        return metric_label(str(value))
    if isinstance(value, float) and name not in ("value", "seeds") and "." not in name:
        return _number(value, ".4f")
    return value_text(value)


def _details(collection: Collection, split: str) -> list[list[str]]:
    """Setting, metric, mean, interval over seeds, interval over users: the two kept apart."""
    rows = []
    for metric in (metric for metric in SHOWN if collection.has(metric, split)):
        for row in rows_of(summary(collection, metric, split)):
            bounds = [_bounds(row, "low", "high"), _bounds(row, "low_users", "high_users")]
            points = ", ".join(f"{point:.3f}" for point in row["points"])
            rows.append([metric_label(metric), row["setting"], f"{row['mean']:.3f}", *bounds, points])
    return rows


def _bounds(row: Mapping[str, Any], low: str, high: str, form: str = ".3f") -> str:
    return f"[{row[low]:{form}}, {row[high]:{form}}]" if row[low] == row[low] else "-"


def _diagnosed(collection: Collection) -> list[list[str]]:
    """A row a setting: what its training asked for and reached."""
    rows = rows_of(diagnosis_table(collection))
    return [[row["setting"], *(_number(row[name], ".2f") for name in COLUMNS)] for row in rows]


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if value == value else "-"


def _comparisons(collection: Collection, split: str) -> dict[str, Any]:
    """The headline metric's differences to the default, and to the best on validation, with their tests."""
    metric = headline_metric(collection)
    default = next((setting for setting in settings(collection) if setting.default), None)
    best = best_setting(collection, metric)
    found = {}
    for name, reference in (("the default", default), ("the best on validation", best[0] if best else None)):
        if reference is None or (name != "the default" and default is not None and reference.text == default.text):
            continue
        rows = [
            [row["setting"], _number(row["difference"], "+.4f"), _bounds(row, "low", "high", "+.4f")]
            + [*(_number(row[name], ".4f") for name in ("p", "p_holm")), _number(row["effect"], "+.2f")]
            + [row["test"], str(row["seeds"])]
            for row in rows_of(comparisons(collection, metric, split, reference))
        ]
        found[f"{metric_label(metric)}: difference to {name}, {reference.text}"] = rows
    return found


def _trial_header(collection: Collection) -> list[str]:
    metrics = [metric_label(metric) for metric in _trial_metrics(collection)]
    return [
        "trial",
        *(symbol(k, collection.sweep) for k in collection.parameters),
        "seed",
        "state",
        *metrics,
        "s",
        "GB",
    ]


def _trial_metrics(collection: Collection) -> list[str]:
    return [metric for metric in SHOWN if (collection.metrics["metric"] == metric).any()]


def _trials(collection: Collection, split: str, running: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a trial; a cell is its text and, where that is rounded, the whole number, which the page sorts by."""
    metrics, keys = _trial_metrics(collection), collection.parameters
    scores = collection.metrics[collection.metrics["split"] == split]
    wide = scores.pivot(index="trial", columns="metric", values="value").reindex(columns=metrics)
    rows = []
    for trial in rows_of(collection.trials):
        values = wide.loc[trial["trial"]].tolist() if trial["trial"] in wide.index else [None] * len(metrics)
        seed = "" if pd.isna(trial["seed"]) else int(trial["seed"])
        row = [trial["label"], *(trial[key] for key in keys), seed, trial["status"]]
        numbers = [*((value, 3) for value in values), (trial["seconds"], 1), (trial["peak_memory_gb"], 2)]
        error = (trial["error"] or "").strip().splitlines()
        rows.append(
            {
                "trial": trial["trial"],
                "status": trial["status"],
                "cells": [*((_shown(v), _full(v, _shown(v))) for v in row), *(_rounded(*n) for n in numbers)],
                "error": error[-1][:160] if error else running.get(trial["trial"], ""),
            }
        )
    return rows


def _embedded(content: dict[str, Any]) -> Markup:
    """JSON inside a page: no text of it can end the element that it stands in."""
    return Markup(json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")) if content else Markup("")


def _facts(collection: Collection) -> list[tuple[str, str]]:
    """What the data are."""
    if collection.root is None:
        return []
    root, evaluations = Location.of(collection.root), (trial.get("evaluate") for trial in rows_of(collection.trials))
    found: dict[str, Any] = next(filter(None, (data_facts(root, each) for each in evaluations if each)), {})
    return [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in found.items()]


def _shown(value: Any) -> str:
    return "" if value is None or value != value else value_text(value)


def _rounded(value: float | None, digits: int) -> tuple[str, str]:
    """As it is shown, and in full."""
    shown = "" if value is None or value != value else f"{value:.{digits}f}"
    return shown, _full(value, shown)


def _full(value: Any, shown: str) -> str:
    """A number in full where what is shown of it is rounded, else nothing."""
    return repr(value) if shown and isinstance(value, float) and float(shown) != value else ""


def _failures(collection: Collection) -> list[dict[str, Any]]:
    """Trials with an error, those with the same one together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for trial in rows_of(collection.trials):
        if trial["status"] not in ("done", "superseded") and trial["error"]:
            groups.setdefault((trial["status"], trial["error"].strip()[-ERROR_LENGTH:]), []).append(trial["label"])
    made = [{"status": status, "error": error, "labels": labels} for (status, error), labels in groups.items()]
    return made[:ERROR_GROUPS]


def _commands(collection: Collection) -> str:
    """The commands that ran the sweep and extended it, one after the other; of several, when and from what code."""
    known = collection.sweep.get("commands")
    found = [entry for entry in known if isinstance(entry, dict)] if isinstance(known, list) else []
    if len(found) < 2:
        return str(collection.sweep.get("command", ""))
    notes = [f"# {entry.get('time') or ''}{', git ' + entry['git'] if entry.get('git') else ''}" for entry in found]
    return "\n".join(f"{note}\n{entry.get('command', '')}" for note, entry in zip(notes, found))


def _seeds(collection: Collection) -> str:
    """Those that trials have, which may be more than the last command's."""
    return ", ".join(str(seed) for seed in sorted(collection.trials["seed"].dropna().unique()))


def _provenance(collection: Collection) -> list[tuple[str, str]]:
    known = _mapping(collection.sweep.get("provenance"))
    return [(name, str(known[name])) for name in ("git", "python", "machine", "time") if known.get(name)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _fenced(text: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}\n{text}\n{fence}"
